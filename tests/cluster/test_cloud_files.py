"""The files for `ray up`: the schemas of Ray and of the clouds, and what the files promise."""

import copy
import importlib.util
import json
import os
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
from ray.autoscaler._private.aws.config import _create_default_inbound_rules
from ray.autoscaler._private.util import prepare_config, validate_config

CLOUDS = ("aws.yaml", "gcp.yaml")
TYPED_AT_RAY_UP = "~/"


@pytest.fixture(params=CLOUDS)
def cloud(read, request):
    return read(request.param)


@pytest.fixture(scope="module")
def run_instances():
    """Return what EC2's RunInstances accepts."""
    import botocore.session

    service = botocore.session.get_session().get_service_model("ec2")
    return service.operation_model("RunInstances").input_shape


@pytest.fixture(scope="module")
def compute_engine(strict):
    """Return a check of every field by the schema of Compute Engine's instances.insert.

    The description comes with the library that Ray starts machines with.
    """
    package = importlib.util.find_spec("googleapiclient")
    documents = Path(package.origin).parent / "discovery_cache" / "documents"
    described = json.loads((documents / "compute.v1.json").read_text())["schemas"]
    # References are bare names of schemas, which JSON Schema writes as paths.
    pointing = json.loads(json.dumps(described).replace('"$ref": "', '"$ref": "#/schemas/'))
    schema = {"schemas": strict(pointing), "$ref": "#/schemas/Instance"}
    return jsonschema.Draft7Validator(schema)


def node_configs(config):
    return {name: kind["node_config"] for name, kind in config["available_node_types"].items()}


def workers(config):
    kinds = config["available_node_types"].items()
    return {name: kind for name, kind in kinds if name != config["head_node_type"]}


@pytest.mark.parametrize(
    ("file", "field"), [("aws.yaml", "InstanceType"), ("gcp.yaml", "machineType")]
)
def test_every_worker_has_its_price(read, root, file, field):
    prices = tomllib.loads((root / "cluster" / "prices.toml").read_text())
    cloud = file.partition(".")[0]
    for kind in workers(read(file)).values():
        assert f"{cloud}-{kind['node_config'][field].replace('.', '-')}" in prices


def test_ray_accepts_the_file(cloud):
    validate_config(prepare_config(cloud))


def test_rays_schema_finds_a_misspelt_option(cloud):
    cloud = copy.deepcopy(cloud) | {"idle_timeout_minute": 5}
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        validate_config(prepare_config(cloud))


@pytest.mark.slow
def test_ec2_accepts_every_machine(read, run_instances):
    from botocore.validate import ParamValidator

    types = run_instances.members["InstanceType"].enum
    markets = run_instances.members["InstanceMarketOptions"].members["MarketType"].enum
    for name, node_config in node_configs(read("aws.yaml")).items():
        asked = {"MinCount": 1, "MaxCount": 1, **node_config}
        report = ParamValidator().validate(asked, run_instances).generate_report()
        assert not report, f"{name}: {report}"
        # The validator checks names and types, not values.
        assert node_config["InstanceType"] in types
        assert node_config.get("InstanceMarketOptions", {}).get("MarketType", "spot") in markets


@pytest.mark.slow
def test_the_check_for_ec2_finds_a_misspelt_field(read, run_instances):
    from botocore.validate import ParamValidator

    node_config = {**node_configs(read("aws.yaml"))["head"], "InstanceTypes": "m7i.xlarge"}
    report = ParamValidator().validate(node_config, run_instances).generate_report()
    assert "InstanceTypes" in report


@pytest.mark.slow
def test_compute_engine_accepts_every_machine(read, compute_engine):
    for name, node_config in node_configs(read("gcp.yaml")).items():
        found = [error.message for error in compute_engine.iter_errors(node_config)]
        assert not found, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("schedulling", {}, "schedulling"),
        ("scheduling", {"provisioningModel": "CHEAP"}, "CHEAP"),
        ("disks", [{"initializeParams": {"diskSizeGb": []}}], "is not of type"),
    ],
)
def test_the_check_for_compute_engine_finds_what_is_wrong(
    read, compute_engine, field, value, message
):
    node_config = {**node_configs(read("gcp.yaml"))["head"], field: value}
    found = [error.message for error in compute_engine.iter_errors(node_config)]
    assert any(message in each for each in found)


def test_the_head_is_on_demand_and_takes_no_tasks(cloud):
    head = cloud["available_node_types"][cloud["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert not is_spot(head["node_config"])


def test_workers_come_and_go(cloud):
    assert cloud["idle_timeout_minutes"] > 0
    assert cloud["provider"]["cache_stopped_nodes"] is False
    for kind in workers(cloud).values():
        assert kind["min_workers"] == 0
        # Otherwise `ray up --max-workers` would have no effect.
        assert "max_workers" not in kind


def test_max_workers_holds_for_every_type_of_worker(cloud):
    prepared = prepare_config(copy.deepcopy(cloud) | {"max_workers": 17})
    assert {kind["max_workers"] for kind in workers(prepared).values()} == {17}


def test_the_fallback_is_the_same_machine_on_demand(cloud):
    kinds = workers(cloud)
    spot, on_demand = kinds["gpu_spot"], kinds["gpu_on_demand"]
    assert spot["resources"] == on_demand["resources"]
    assert spot["resources"]["GPU"] == 1
    assert without_market(spot["node_config"]) == without_market(on_demand["node_config"])


def test_a_type_is_spot_as_its_name_says(cloud):
    for name, kind in cloud["available_node_types"].items():
        assert is_spot(kind["node_config"]) == name.endswith("_spot")


def is_spot(node_config):
    aws = node_config.get("InstanceMarketOptions", {}).get("MarketType")
    gcp = node_config.get("scheduling", {}).get("provisioningModel")
    return aws == "spot" or gcp == "SPOT"


def without_market(node_config):
    market = ("InstanceMarketOptions", "scheduling")
    return {name: value for name, value in node_config.items() if name not in market}


def test_the_copied_files_are_there_and_bring_the_token(cloud, root):
    mounts = cloud["file_mounts"]
    assert mounts["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    for local in mounts.values():
        assert local.startswith(TYPED_AT_RAY_UP) or (root / local).is_file(), local


def test_the_commands_use_only_files_that_are_copied(cloud):
    commands = " ".join([*cloud["setup_commands"], *cloud["head_start_ray_commands"]])
    assert "bash ~/tutti/set_up_node.sh" in commands
    assert "PYTHONPATH=~/tutti RAY_AUTOSCALER_UTILIZATION_SCORER=spot_first.score" in commands
    copied = {Path(target).name for target in cloud["file_mounts"] if "/tutti/" in target}
    assert copied == {"set_up_node.sh", "spot_first.py", "requirements.lock"}


def test_the_dashboard_listens_on_loopback(cloud):
    (start,) = [each for each in cloud["head_start_ray_commands"] if "--head" in each]
    assert "--dashboard-host=127.0.0.1" in start


def test_only_ssh_is_open_to_the_world_on_aws(read):
    extra = read("aws.yaml")["provider"]["security_group"].get("IpPermissions", [])
    rules = _create_default_inbound_rules({"sg-own"}, extra)
    open_to_the_world = [rule for rule in rules if "UserIdGroupPairs" not in rule]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in open_to_the_world] == [(22, 22)]


def linted(template):
    """Return errors and warnings of cfn-lint, without its advice."""
    from cfnlint.api import lint_all

    return [
        f"{each.rule.id} {each.message}" for each in lint_all(template) if each.rule.id[0] in "EW"
    ]


@pytest.mark.slow
def test_the_roles_on_aws_are_a_template_that_its_linter_accepts(root):
    template = (root / "cluster" / "aws-roles.yaml").read_text()
    assert linted(template) == []
    assert "RoleNames" in " ".join(linted(template.replace("RoleName:", "RoleNames:")))


def test_machines_on_aws_have_a_role_of_the_template(root, read):
    made = (root / "cluster" / "aws-roles.yaml").read_text()
    for name, node_config in node_configs(read("aws.yaml")).items():
        profile = node_config["IamInstanceProfile"]["Name"]
        assert profile == ("tutti-head" if name == "head" else "tutti-worker")
        assert f"InstanceProfileName: {profile}\n" in made


@pytest.fixture
def machine(tmp_path, root):
    """Return a machine as `ray up` finds it, with a uv that prints its arguments."""
    home, copied = tmp_path / "home", tmp_path / "tutti"
    for folder in (home / ".ray", home / ".local" / "bin", copied):
        folder.mkdir(parents=True)
    (home / ".bashrc").write_text("# as it comes\n")
    (home / ".ray" / "auth_token").write_text("a-token")
    (home / ".ray" / "auth_token").chmod(0o644)
    uv = home / ".local" / "bin" / "uv"
    uv.write_text('#!/bin/sh\necho "uv $*" >> "$HOME/asked"\n')
    uv.chmod(0o755)
    (copied / "set_up_node.sh").write_text((root / "cluster" / "set_up_node.sh").read_text())
    return home, copied


def shell(home, *command):
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_machine_can_be_set_up_twice(machine):
    home, copied = machine
    for _ in range(2):
        shell(home, "bash", copied / "set_up_node.sh", "STORE=https://example.com")
    assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert f"-r {copied}/requirements.lock" in (home / "asked").read_text()
    assert (home / ".bashrc").read_text().count("source ") == 1
    say = "source ~/.bashrc; echo $RAY_AUTH_MODE $STORE $PATH"
    mode, store, path = shell(home, "bash", "-c", say).split(maxsplit=2)
    assert (mode, store) == ("token", "https://example.com")
    assert path.startswith(f"{home}/venv/bin:")
