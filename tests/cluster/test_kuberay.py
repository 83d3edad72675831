"""The manifests for Kubernetes: the schemas of KubeRay and Kubernetes, and how Ray reads them."""

import copy
import gzip
import json
import re
import shlex
import tomllib
from pathlib import Path

import jsonschema
import pytest
import ray
import tyro
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

KUBERNETES = "1.34"
MANIFESTS = ("raycluster", "rayjob")


@pytest.fixture(scope="module")
def cluster(read):
    return read("kuberay/raycluster.yaml")


@pytest.fixture(scope="module")
def job(read):
    return read("kuberay/rayjob.yaml")


@pytest.fixture(scope="module")
def kuberay(strict):
    """Return a check of every field of a manifest by the definition of its kind."""
    folder = Path(__file__).parent / "kuberay_crd"

    def check(manifest):
        kind = manifest["kind"].lower()
        schema = json.loads(gzip.decompress((folder / f"{kind}.json.gz").read_bytes()))
        return [
            error.message
            for error in jsonschema.Draft7Validator(strict(schema)).iter_errors(manifest)
        ]

    return check


@pytest.fixture(scope="module")
def templates(cluster):
    """Return the pods of the cluster by the names of their groups."""
    spec = cluster["spec"]
    groups = {group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]}
    return {"head": spec["headGroupSpec"]["template"], **groups}


@pytest.fixture(scope="module")
def in_rays_words(cluster):
    """Return the cluster as Ray's autoscaler reads it."""
    named = copy.deepcopy(cluster)
    named["metadata"]["namespace"] = "default"
    return _derive_autoscaling_config_from_ray_cr(named)


@pytest.mark.parametrize("name", MANIFESTS)
def test_kuberay_accepts_the_manifest(read, kuberay, name):
    assert kuberay(read(f"kuberay/{name}.yaml")) == []


@pytest.mark.parametrize(
    "path",
    [
        ("spec", "autoscalerOptions", "idleTimeoutSecond"),
        ("spec", "headGroupSpec", "rayStartParam"),
        ("spec", "headGroupSpec", "template", "spec", "restartpolicy"),
    ],
)
def test_the_check_by_kuberays_schema_finds_a_misspelt_field(cluster, kuberay, path):
    wrong = copy.deepcopy(cluster)
    place = wrong
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = "1"
    assert any(path[-1] in message for message in kuberay(wrong))


@pytest.mark.slow
def test_kubernetes_accepts_every_pod(templates):
    import kubernetes_validate

    for name, template in templates.items():
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}}
        kubernetes_validate.validate({**pod, "template": template}, KUBERNETES, strict=True)


@pytest.mark.slow
def test_kubernetes_accepts_the_network_policy(read):
    import kubernetes_validate

    policy = read("kuberay/network-policy.yaml")
    kubernetes_validate.validate(policy, KUBERNETES, strict=True)
    policy["spec"]["ingres"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="ingres"):
        kubernetes_validate.validate(policy, KUBERNETES, strict=True)


def test_only_the_pods_of_ray_reach_ports_that_need_no_token(read):
    policy = read("kuberay/network-policy.yaml")["spec"]
    among_themselves, submitters, prometheus = policy["ingress"]
    assert among_themselves["from"] == [{"podSelector": policy["podSelector"]}]
    assert "ports" not in among_themselves
    assert [rule["ports"][0]["port"] for rule in (submitters, prometheus)] == [8265, 8080]


def test_the_job_brings_the_cluster_that_the_other_manifest_describes(cluster, job):
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]


def test_the_job_ends_its_cluster_and_is_retried_only_as_often_as_it_says(job):
    spec = job["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["backoffLimit"] > 0
    assert spec["submitterConfig"]["backoffLimit"] > 0


def test_the_job_is_a_command_of_the_project(job, root):
    # Imported here: it takes ten seconds, and no other test of this file needs it.
    from jobs.pipeline import PipelineOptions, Stages

    python, script, *options = shlex.split(job["spec"]["entrypoint"])
    assert (python, script) == ("python", "jobs/pipeline.py")
    assert (root / script).is_file()
    parsed = tyro.cli(PipelineOptions, args=options)
    Stages.of(parsed)
    assert parsed.corpus == "tau"
    assert parsed.store.startswith("s3://")
    # On a cluster that KubeRay scales from zero, a job sees no GPU.
    assert parsed.gpus_per_run


def test_token_authentication_is_on(cluster):
    assert cluster["spec"]["authOptions"] == {"mode": "token"}


def test_the_second_autoscaler_starts_with_no_workers(cluster, in_rays_words):
    assert cluster["spec"]["enableInTreeAutoscaling"] is True
    assert cluster["spec"]["autoscalerOptions"]["version"] == "v2"
    kinds = in_rays_words["available_node_types"]
    assert {kind["min_workers"] for kind in kinds.values()} == {0}
    assert in_rays_words["idle_timeout_minutes"] == 5


def test_the_head_takes_no_tasks(in_rays_words):
    head = in_rays_words["available_node_types"]["headgroup"]["resources"]
    assert (head["CPU"], head["GPU"]) == (0, 0)


@pytest.mark.parametrize(
    ("waiting", "lost", "started"),
    [
        ({"CPU": 1, "GPU": 1}, {}, "gpu-spot"),
        ({"CPU": 1, "GPU": 1}, {"gpu-spot": 0.0}, "gpu-on-demand"),
        ({"CPU": 1, "GPU": 1}, {"gpu-spot": 1.0}, "gpu-spot"),
        ({"CPU": 1}, {}, "cpu-spot"),
    ],
)
def test_spot_is_used_first_and_on_demand_if_no_spot_was_available(
    in_rays_words, waiting, lost, started
):
    config = AutoscalingConfig(in_rays_words, skip_content_hash=True)
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count(
            [ResourceRequestUtil.make(waiting)] * 2
        ),
        recoverable_resource_availabilities=lost,
    )
    reply = ResourceDemandScheduler().schedule(request)
    assert {each.instance_type for each in reply.to_launch} - {"headgroup"} == {started}


def test_the_fallback_is_the_same_pod_anywhere(templates):
    spot, on_demand = (copy.deepcopy(templates[f"gpu-{kind}"]) for kind in ("spot", "on-demand"))
    for template in (spot, on_demand):
        template["spec"].pop("affinity", None)
        template["spec"].pop("tolerations")
    assert spot == on_demand


# What Google, Amazon, Karpenter and Azure call their spot nodes.
SPOT_LABELS = [
    {"cloud.google.com/gke-spot": "true"},
    {"eks.amazonaws.com/capacityType": "SPOT"},
    {"karpenter.sh/capacity-type": "spot"},
    {"kubernetes.azure.com/scalesetpriority": "spot"},
]


@pytest.mark.parametrize("labels", SPOT_LABELS)
def test_spot_pods_go_to_spot_nodes_and_the_head_to_others(templates, labels):
    assert suits(templates["gpu-spot"], labels)
    assert suits(templates["cpu-spot"], labels)
    assert not suits(templates["head"], labels)


def test_on_other_nodes_the_head_runs_and_no_spot_pod(templates):
    assert suits(templates["head"], {"eks.amazonaws.com/capacityType": "ON_DEMAND"})
    assert suits(templates["head"], {})
    assert not suits(templates["gpu-spot"], {})


def suits(template, labels):
    """Return whether a node with these labels matches one term of the pod completely."""
    affinity = template["spec"]["affinity"]["nodeAffinity"]
    required = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    return any(
        all(holds(each, labels) for each in term["matchExpressions"])
        for term in required["nodeSelectorTerms"]
    )


def holds(expression, labels):
    value, wanted = labels.get(expression["key"]), expression.get("values", [])
    return {
        "In": value in wanted,
        "NotIn": value not in wanted,
        "DoesNotExist": value is None,
    }[expression["operator"]]


def test_no_pod_runs_as_root_or_has_keys_in_its_manifest(templates):
    for template in templates.values():
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        (container,) = template["spec"]["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["envFrom"] == [{"secretRef": {"name": "tutti-store"}}]
        assert "env" not in container


def test_every_pod_has_a_place_for_what_it_decodes(templates, root):
    for template in templates.values():
        (container,) = template["spec"]["containers"]
        (mount,) = container["volumeMounts"]
        assert mount["name"] in {volume["name"] for volume in template["spec"]["volumes"]}
        dockerfile = (root / "cluster" / "kuberay" / "Dockerfile").read_text()
        assert f"TUTTI_CACHE={mount['mountPath']}\n" in dockerfile


def test_the_versions_are_those_of_the_project(cluster, templates, root):
    assert cluster["spec"]["rayVersion"] == ray.__version__
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    for name in ("README.md", "kuberay/Dockerfile"):
        tags = re.findall(
            r"registry\.example\.com/tutti:(\S+)", (root / "cluster" / name).read_text()
        )
        assert set(tags) == {version}


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_pod_names_the_image_by_a_digest_that_must_be_filled_in_once(root, name):
    text = (root / "cluster" / "kuberay" / f"{name}.yaml").read_text()
    images = re.findall(r"\bimage: (.+)", text)
    assert images.pop(0).startswith("&image registry.example.com/tutti@sha256:DIGEST # EDIT")
    assert set(images) == {"*image"}
