"""The dashboards: what each panel asks Prometheus for, and why. Grafana's files and the page of `make observe` are made
of these, so that both show the same."""

from __future__ import annotations

from infra.grafana.panel import Dashboard, Panel, Query

_SET = ("set", "label_values(demosift_last_run_timestamp_seconds, set)")
_COMMAND = ("command", "label_values(demosift_last_run_timestamp_seconds, command)")
_STAGE = ("stage", "label_values(ray_beam_stage_bundles_known, stage)")
_FIRING = 'ALERTS{alertstate="firing"}'
_RUN = '{set=~"$set", command=~"$command"}'

OVERVIEW = Dashboard(
    "demosift-overview",
    "DemoSift: overview",
    (
        Panel(
            "Time since the last success",
            "stat",
            "s",
            (Query('demosift:success_age_seconds{set=~"$set"}', "{{set}}, {{command}}"),),
            "DemoSiftNoSuccess fires at 26 hours.",
        ),
        Panel(
            "Did the last run fail",
            "stat",
            "short",
            (Query('demosift_last_run_failed{set=~"$set"}', "{{set}}, {{command}}"),),
            "0 is good; 1 is a run that failed or that a gate stopped.",
        ),
        Panel(
            "Alerts",
            "bars",
            "short",
            (
                Query(
                    f"sum by (alertname) ({_FIRING}) or (vector(0) unless on () {_FIRING})",
                    "{{alertname}}",
                ),
            ),
            "Those that fire now; a single 0 where none does.",
        ),
        Panel(
            "What became of the episodes",
            "lines",
            "short",
            (Query('sum by (outcome) (demosift_episodes{set=~"$set"})', "{{outcome}}"),),
            "Of each set's last run; a step is a new run.",
        ),
        Panel(
            "Rejected share per source",
            "lines",
            "percentunit",
            (Query('demosift:outcome_share{outcome="rejected", set=~"$set"}', "{{source}}"),),
            "Of what was there to be judged. A jump of 10 points over the median of 7 days is an alert.",
        ),
        Panel(
            "Why episodes were not kept",
            "bars",
            "short",
            (Query('sort_desc(sum by (rule) (demosift_not_kept{set=~"$set"}))', "{{rule}}"),),
            "The rule of the ledger that decided.",
        ),
        Panel(
            "Dead letters",
            "lines",
            "percentunit",
            (Query('demosift:dead_letter_share{set=~"$set"}', "{{set}}, {{command}}"),),
            "Inputs that could not be read or measured; above 2 % is an alert.",
        ),
        Panel(
            "Time of a run",
            "lines",
            "s",
            (Query('demosift_run_duration_seconds{set=~"$set"}', "{{set}}, {{command}}"),),
            "Wall time.",
        ),
    ),
    (_SET,),
)

RUN = Dashboard(
    "demosift-run",
    "DemoSift: one run",
    (
        Panel(
            "Inputs",
            "stat",
            "short",
            (
                Query(f"sum(demosift_inputs{_RUN})", "planned"),
                Query('sum(demosift_episodes{set=~"$set", command=~"$command", outcome="kept"})', "kept"),
            ),
            "Recordings that the sources named, and episodes that were kept of them.",
        ),
        Panel(
            "Outcomes per source",
            "bars",
            "short",
            (Query(f"sum by (source, outcome) (demosift_episodes{_RUN}) > 0", "{{source}}: {{outcome}}"),),
            "Everything that came in leaves once.",
        ),
        Panel(
            "Not kept, per source and rule",
            "bars",
            "short",
            (Query(f"sum by (source, rule) (demosift_not_kept{_RUN})", "{{source}}: {{rule}}"),),
            "",
        ),
        Panel(
            "Gates that failed",
            "stat",
            "short",
            (Query(f"demosift_gates_failed{_RUN}", "{{set}}, {{command}}"),),
            "Any number but 0: nothing was published.",
        ),
        Panel(
            "Stages: in, out, dead",
            "bars",
            "short",
            (Query(f"sort_desc(sum by (stage, end) (demosift_stage_elements{_RUN}) > 0)", "{{stage}}: {{end}}"),),
            "Beam's committed counts; a retried bundle counts once.",
        ),
        Panel(
            "Published bytes per table",
            "bars",
            "bytes",
            (Query(f"sum by (table) (demosift_output_bytes{_RUN})", "{{table}}"),),
            "",
        ),
        Panel(
            "Published rows per table",
            "bars",
            "short",
            (Query(f"sum by (table) (demosift_output_rows{_RUN}) > 0", "{{table}}"),),
            "",
        ),
        Panel(
            "Live: bundles",
            "lines",
            "short",
            (
                Query("sum(ray_beam_stage_bundles_known)", "given out"),
                Query("sum(ray_beam_stage_bundles_done)", "done"),
                Query("sum(ray_beam_stage_bundles_running)", "running"),
            ),
            "Of RayRunner, over all stages of the jobs that run.",
        ),
        Panel(
            "Live: stages done",
            "lines",
            "short",
            (
                Query("count(ray_beam_stage_done)", "stages"),
                Query("sum(ray_beam_stage_done)", "done"),
            ),
            "A run is up to three pipelines: measuring, comparing, writing.",
        ),
        Panel("Live: workers", "lines", "short", (Query("max(ray_beam_workers)", "workers"),), "Of the session."),
    ),
    (_SET, _COMMAND),
)

STAGE = Dashboard(
    "demosift-stage",
    "DemoSift: one stage",
    (
        Panel(
            "Elements per second",
            "lines",
            "short",
            (Query('sum by (stage) (rate(ray_beam_stage_elements{stage=~"$stage"}[1m]))', "{{stage}}"),),
            "Elements of committed bundles, as the stage's own input counts them.",
        ),
        Panel(
            "Output per second",
            "lines",
            "bytes",
            (Query('sum by (stage) (rate(ray_beam_stage_output_bytes{stage=~"$stage"}[1m]))', "{{stage}}"),),
            "Encoded bytes that the stage hands on.",
        ),
        Panel(
            "Input that waits",
            "lines",
            "bytes",
            (Query('sum by (stage) (ray_beam_stage_queued_bytes{stage=~"$stage"})', "{{stage}}"),),
            "Grows where a stage is slower than those before it; they are held back at --ray_edge_mb.",
        ),
        Panel(
            "Bundles that run",
            "lines",
            "short",
            (Query('sum by (stage) (ray_beam_stage_bundles_running{stage=~"$stage"})', "{{stage}}"),),
            "",
        ),
        Panel(
            "Bundles done",
            "lines",
            "short",
            (Query('sum by (stage) (ray_beam_stage_bundles_done{stage=~"$stage"})', "{{stage}}"),),
            "",
        ),
        Panel(
            "Workers' time",
            "bars",
            "s",
            (
                Query(
                    'sort_desc(sum by (stage) (max_over_time(ray_beam_stage_worker_seconds{stage=~"$stage"}[1h])))',
                    "{{stage}}",
                ),
            ),
            "Where the time goes: seconds in committed bundles, over all workers, of the last hour's jobs.",
        ),
    ),
    (_STAGE,),
)

MACHINES = Dashboard(
    "demosift-machines",
    "DemoSift: GPU and memory",
    (
        Panel(
            "GPU utilization",
            "lines",
            "percent",
            (Query("ray_node_gpus_utilization", "{{ip}} GPU {{GpuIndex}}"),),
            "Below 10 % while work waits is an alert.",
            gpu=True,
        ),
        Panel(
            "GPU memory",
            "lines",
            "decmbytes",
            (
                Query("ray_node_gram_used", "{{ip}} GPU {{GpuIndex}} used"),
                Query("ray_node_gram_available", "{{ip}} GPU {{GpuIndex}} free"),
            ),
            "",
            gpu=True,
        ),
        Panel(
            "Input that waits for a GPU",
            "lines",
            "bytes",
            (Query("demosift:gpu_queued_bytes", "{{SessionName}}"),),
            "Over all stages with the resource hint `gpus`.",
            gpu=True,
        ),
        Panel("CPU", "lines", "percent", (Query("ray_node_cpu_utilization", "{{ip}}"),), "Of a node's CPUs."),
        Panel(
            "Memory of the nodes",
            "lines",
            "bytes",
            (Query("ray_node_mem_used", "{{ip}} used"), Query("ray_node_mem_total", "{{ip}} in all")),
            "",
        ),
        Panel(
            "Object store",
            "lines",
            "bytes",
            (Query("sum by (Location) (ray_object_store_memory)", "{{Location}}"),),
            "Blocks between the stages, by where they lie.",
        ),
        Panel(
            "Spilled",
            "lines",
            "bytes",
            (Query('sum(ray_object_store_memory{Location="SPILLED"})', "on disk"),),
            "Above 1 GB for 5 minutes is an alert.",
        ),
        Panel(
            "Disk writes",
            "lines",
            "bytes",
            (Query("ray_node_disk_io_write_speed", "{{ip}}"),),
            "Per second; spilling and the output.",
        ),
    ),
)

DASHBOARDS = (OVERVIEW, RUN, STAGE, MACHINES)
