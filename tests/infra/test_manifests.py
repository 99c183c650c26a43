"""infra/kuberay as kubectl renders it: valid for KubeRay 1.7 and Kubernetes 1.34, and consistent in itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipeline.config import PipelineConfig
from tests.infra.kuberay_rules import image_tag, kuberay_faults, pinned
from tests.infra.references import reference_faults
from tests.infra.rendered import KUBERAY, OVERLAYS, Rendered, render
from tests.infra.schemas import schema_faults
from tests.infra.security import security_faults
from tests.infra.sizing import sizing_faults


@pytest.fixture(params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return render(request.param)


def test_every_document_meets_its_schema(rendered: Rendered) -> None:
    assert schema_faults(rendered) == []


def test_names_selectors_and_mounts_meet(rendered: Rendered) -> None:
    assert reference_faults(rendered) == []


def test_pods_are_restricted_and_write_where_they_may(rendered: Rendered) -> None:
    assert security_faults(rendered) == []


def test_sizes_fit_each_other_and_the_quota(rendered: Rendered) -> None:
    assert sizing_faults(rendered) == []


def test_the_run_is_what_the_operator_and_the_command_take(rendered: Rendered) -> None:
    assert kuberay_faults(rendered) == []


def test_ray_and_the_images_are_those_of_the_requirements(rendered: Rendered) -> None:
    assert rendered.cluster["rayVersion"] == pinned("ray")
    images = {container["image"] for pod in rendered.pods() for container in pod.containers}
    assert {image.rpartition(":")[2] for image in images} == {image_tag()}


def test_the_configuration_is_one_that_the_command_takes() -> None:
    config = PipelineConfig.load(KUBERAY / "base" / "job" / "curation.yaml", sources_present=False)
    assert [Path(source.path).parts[:3] for source in config.sources] == [("/", "data", "recordings")]


def test_a_changed_configuration_is_another_config_map() -> None:
    """A run that is queued or that is tried again reads what it was started with."""
    (name,) = render("dev").names("ConfigMap")
    assert name.startswith("curation-config-") and name == next(
        volume["configMap"]["name"]
        for volume in render("dev").cluster["headGroupSpec"]["template"]["spec"]["volumes"]
        if "configMap" in volume
    )


def test_only_production_has_gpus_and_grows() -> None:
    dev, prod = render("dev"), render("prod")
    assert [group["groupName"] for group in dev.workers] == ["cpu"]
    assert [group["groupName"] for group in prod.workers] == ["cpu", "cpu-spot", "l4-spot", "l4"]
    assert not dev.cluster.get("enableInTreeAutoscaling") and prod.cluster["enableInTreeAutoscaling"]
    identities = {
        account["metadata"]["name"]: account["metadata"].get("annotations", {}).get("iam.gke.io/gcp-service-account")
        for account in prod.of("ServiceAccount")
    }
    assert identities["curation-head"] and identities["curation-head"] == identities["curation-worker"]
    assert identities["curation-submitter"] is None


def test_nothing_but_the_workers_may_be_lost() -> None:
    """Head and submitter stay off spot nodes, and no worker without an alternative that stays."""
    rendered = render("prod")
    for pod in rendered.pods():
        spot = "cloud.google.com/gke-spot" in pod.spec.get("nodeSelector", {})
        terms = (
            pod.spec.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
        )
        stays = [{"key": "cloud.google.com/gke-spot", "operator": "DoesNotExist"}]
        assert spot == pod.name.endswith("-spot")
        assert spot or terms == {"nodeSelectorTerms": [{"matchExpressions": stays}]}, pod.name
    offers = [group["resources"] for group in rendered.workers]
    assert offers[0] == offers[1] and offers[2] == offers[3]
