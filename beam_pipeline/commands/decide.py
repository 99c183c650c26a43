"""`decide`: applies rules, verdicts, deduplication, selection and gates to stored evidence, and publishes.

Exit status: 0 done, 1 the run failed or an episode could not be read again, 2 bad configuration or usage, 3 a gate
failed and nothing was published.
"""

from __future__ import annotations

from collections.abc import Sequence

from beam_pipeline.commands.command import BAD_USAGE, UsageError, error_console, output_console
from beam_pipeline.commands.job import check_publish, config_of, finish, parse, prepare
from beam_pipeline.metrics_push import PUSH_FLAGS, PUSH_USAGE, run_report
from beam_pipeline.options import DEFAULT_READ, CurationOptions
from beam_pipeline.typed_yaml import ConfigError

_OWN_FLAGS = ("--config", "--output", "--publish", "--runner", *PUSH_FLAGS)
USAGE = (
    "usage: python -m beam_pipeline decide --config NEW.yaml --output DIR [--runner NAME] [any Beam option]\n"
    "  --config   YAML file; only select, deduplication, gates, sink and verdicts may differ from what measured\n"
    "  --output   folder that holds the evidence, by `evidence` or by `curate`\n"
    "  --publish, --runner   as of curate\n"
    f"{PUSH_USAGE}"
    "Raw data is read again only of episodes that are newly kept.\n"
    "exit status: 0 done, 1 the run failed or a newly kept episode cannot be read, 2 bad configuration or usage,\n"
    "             3 a gate failed, 130 and 143 interrupted by Ctrl-C and SIGTERM, nothing published"
)


def run(arguments: Sequence[str]) -> int:
    """Decide and publish; returns the exit status."""
    console, errors = output_console(), error_console()
    try:
        options = parse(arguments, _OWN_FLAGS)
        own = options.view_as(CurationOptions)
        for name, unset in (("source", None), ("fail_fast", False), ("read_with", DEFAULT_READ)):
            if getattr(own, name) != unset:
                raise UsageError(f"decide has no --{name}: it decides about every source by stored evidence")
        report = run_report(own, "decide", errors)
    except (UsageError, ValueError) as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_USAGE
    with report:
        try:
            pipeline, runner = prepare(options, config_of(options, USAGE), console, sources_present=False)
            check_publish(own.publish)
        except (UsageError, ConfigError, ValueError) as error:
            errors.print(f"error: {error}", markup=False)
            return report.failed(BAD_USAGE)
        return finish(lambda: pipeline.decide(own.output, runner, options), console, errors, report, own.publish)
