"""The head's role on AWS: what Ray's autoscaler asks for is allowed, and what a stranger would ask is not."""

from fnmatch import fnmatchcase

import botocore.client
import pytest
import yaml
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

REGION, ACCOUNT = "us-west-2", "123456789012"
PLACE = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
WORKER = f"arn:aws:iam::{ACCOUNT}:role/tutti-worker"
PROFILES = f"arn:aws:iam::{ACCOUNT}:instance-profile/"
OURS = {"aws:ResourceTag/ray-cluster-name": "tutti"}
MADE = {"Worker.Arn": WORKER, "WorkerProfile.Arn": f"{PROFILES}tutti-worker"}
PSEUDO = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": ACCOUNT}


def read_template(text):
    """Read a template, with what CloudFormation puts in for its functions."""

    class Loader(yaml.SafeLoader):
        pass

    def substitute(loader, node):
        text = node.value
        for name, value in PSEUDO.items():
            text = text.replace(f"${{{name}}}", value)
        return text

    Loader.add_constructor("!Sub", substitute)
    Loader.add_constructor("!GetAtt", lambda loader, node: MADE[node.value])
    Loader.add_constructor("!Ref", lambda loader, node: node.value)
    return yaml.load(text, Loader)  # a SafeLoader with three more words


@pytest.fixture(scope="module")
def statements(root):
    resources = read_template((root / "cluster" / "aws-roles.yaml").read_text())["Resources"]
    (policy,) = resources["Head"]["Properties"]["Policies"]
    return policy["PolicyDocument"]["Statement"]


def listed(value):
    return value if isinstance(value, list) else [value]


TESTS = {
    "StringEquals": lambda found, wanted: found in wanted,
    "ArnEquals": lambda found, wanted: found in wanted,
    "Bool": lambda found, wanted: found in wanted,
    "NumericLessThanEquals": lambda found, wanted: float(found) <= float(wanted[0]),
}


def holds(condition, context):
    """Return whether a condition holds; one on a key that the request lacks does not."""
    for operator, keys in condition.items():
        for key, wanted in keys.items():
            if operator == "ForAllValues:StringLike":
                found = context.get(key, [])
                if not all(any(fnmatchcase(each, form) for form in wanted) for each in found):
                    return False
            elif key not in context or not TESTS[operator](context[key], listed(wanted)):
                return False
    return True


def allows(statements, action, resource, context):
    """Return whether IAM would allow an action on one resource."""
    assert {each["Effect"] for each in statements} == {"Allow"}
    return any(
        any(fnmatchcase(action, form) for form in listed(each["Action"]))
        and any(fnmatchcase(resource, form) for form in listed(each["Resource"]))
        and holds(each.get("Condition", {}), context)
        for each in statements
    )


def list_start(node_config, tags, owner="amazon", group="tutti", region=REGION, **disk):
    """Return what IAM is asked for a RunInstances: an action, a resource and its context each."""
    place = f"arn:aws:ec2:{region}:{ACCOUNT}"
    requested = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    profile = f"{PROFILES}{node_config['IamInstanceProfile']['Name']}"
    kind = {"ec2:InstanceType": node_config["InstanceType"], "ec2:InstanceProfile": profile}
    (volume,) = (each["Ebs"] | disk for each in node_config["BlockDeviceMappings"])
    of_volume = {
        "ec2:VolumeType": volume["VolumeType"],
        "ec2:VolumeSize": str(volume["VolumeSize"]),
        "ec2:Encrypted": str(volume["Encrypted"]).lower(),
    }
    key_pair = f"ray-autoscaler_1_{REGION}"
    contexts = {
        f"{place}:instance/*": kind | requested,
        f"arn:aws:ec2:{region}::image/ami-1": {"ec2:Owner": owner},
        f"{place}:volume/*": of_volume,
        f"{place}:security-group/sg-1": {"aws:ResourceTag/ray-cluster-name": group},
        f"{place}:subnet/subnet-1": {},
        f"{place}:network-interface/*": {},
        f"{place}:key-pair/{key_pair}": {},
    }
    if "InstanceMarketOptions" in node_config:
        contexts[f"{place}:spot-instances-request/*"] = {}
    tagged = requested | {"ec2:CreateAction": "RunInstances", "aws:TagKeys": list(tags)}
    return [
        *(("ec2:RunInstances", resource, context) for resource, context in contexts.items()),
        ("ec2:CreateTags", f"{place}:instance/*", tagged),
        ("iam:PassRole", WORKER, {"iam:PassedToService": "ec2.amazonaws.com"}),
    ]


def list_asked(operation, asked, node_config):
    """Return what IAM is asked for a request of Ray's to machines of its own cluster."""
    if operation.startswith("Describe"):
        return [(f"ec2:{operation}", "*", {})]
    if operation == "RunInstances":
        (specification,) = asked["TagSpecifications"]
        tags = {each["Key"]: each["Value"] for each in specification["Tags"]}
        return list_start(node_config, tags)
    machines = asked["Resources"] if operation == "CreateTags" else asked["InstanceIds"]
    tags = {each["Key"]: each["Value"] for each in asked.get("Tags", [])}
    context = OURS | {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    context |= {"aws:TagKeys": list(tags)}
    return [(f"ec2:{operation}", f"{PLACE}:instance/{each}", context) for each in machines]


@pytest.fixture(scope="module")
def requests():
    """Return the requests with which Ray's autoscaler starts, lists, tags and ends a machine."""
    asked = []
    machine = {
        "InstanceId": "i-1",
        "State": {"Name": "running"},
        "StateReason": {"Message": ""},
        "Tags": [{"Key": "ray-cluster-name", "Value": "tutti"}],
    }
    answers = {
        "RunInstances": {"Instances": [machine]},
        "DescribeInstances": {"Reservations": [{"Instances": [machine]}]},
    }

    def answer(client, operation, arguments):
        asked.append((operation, arguments))
        return answers.get(operation, {})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", answer)
        patch.setattr("ray.autoscaler._private.aws.node_provider.TAG_BATCH_DELAY", 0)
        provider = AWSNodeProvider({"region": REGION, "cache_stopped_nodes": False}, "tutti")
        tags = {"ray-node-type": "worker", "ray-node-name": "ray-tutti-worker"}
        provider.create_node({"ImageId": "ami-1", "SubnetIds": ["subnet-1"]}, tags, 1)
        (node,) = provider.non_terminated_nodes({})
        provider.set_node_tags(node, {"ray-node-status": "up-to-date", "ray-node-name": "n"})
        provider.terminate_node(node)
    return asked


def workers_of(config):
    kinds = config["available_node_types"].items()
    return [kind["node_config"] for name, kind in kinds if name != config["head_node_type"]]


def test_rays_autoscaler_may_do_all_that_it_does_with_every_worker(read, statements, requests):
    operations = {operation for operation, _ in requests}
    assert {"RunInstances", "CreateTags", "TerminateInstances"} <= operations
    for node_config in workers_of(read("aws.yaml")):
        for operation, asked in requests:
            for each in list_asked(operation, asked, node_config):
                assert allows(statements, *each), each


def test_the_newest_images_may_be_looked_up(read, statements):
    for node_config in workers_of(read("aws.yaml")):
        name = node_config["ImageId"].removeprefix("resolve:ssm:")
        parameter = f"arn:aws:ssm:{REGION}::parameter{name}"
        assert allows(statements, "ssm:GetParameters", parameter, {})
    own = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/passwords"
    assert not allows(statements, "ssm:GetParameters", own, {})


@pytest.mark.parametrize(
    "change",
    [
        {"InstanceType": "p5.48xlarge"},
        {"IamInstanceProfile": {"Name": "tutti-head"}},
        {"IamInstanceProfile": {"Name": "admin"}},
    ],
)
def test_no_other_machine_may_be_started(read, statements, change):
    node_config = workers_of(read("aws.yaml"))[0] | change
    asked = list_start(node_config, {"ray-cluster-name": "tutti"})
    assert not all(allows(statements, *each) for each in asked)


@pytest.mark.parametrize(
    "change",
    [
        {"tags": {}},
        {"tags": {"ray-cluster-name": "another"}},
        {"owner": "210987654321"},
        {"group": "another"},
        {"region": "eu-central-1"},
        {"VolumeSize": 16_000},
        {"VolumeType": "io2"},
        {"Encrypted": False},
    ],
)
def test_no_machine_may_be_started_elsewhere_or_otherwise(read, statements, change):
    node_config = workers_of(read("aws.yaml"))[0]
    asked = list_start(node_config, **{"tags": {"ray-cluster-name": "tutti"}} | change)
    assert not all(allows(statements, *each) for each in asked)


@pytest.mark.parametrize("resource", ["instance/i-1", "volume/vol-1", "security-group/sg-1"])
def test_the_tag_of_the_cluster_cannot_be_given_to_what_others_own(statements, resource):
    context = {"aws:RequestTag/ray-cluster-name": "tutti", "aws:TagKeys": ["ray-cluster-name"]}
    assert not allows(statements, "ec2:CreateTags", f"{PLACE}:{resource}", context)


def test_machines_of_others_cannot_be_ended(statements):
    machine = f"{PLACE}:instance/i-1"
    assert allows(statements, "ec2:TerminateInstances", machine, OURS)
    for context in ({}, {"aws:ResourceTag/ray-cluster-name": "another"}):
        assert not allows(statements, "ec2:TerminateInstances", machine, context)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin"),
        ("iam:CreateRole", "*"),
        ("ec2:DeleteTags", f"{PLACE}:instance/i-1"),
        ("ec2:ModifyInstanceAttribute", f"{PLACE}:instance/i-1"),
        ("ec2:AuthorizeSecurityGroupIngress", f"{PLACE}:security-group/sg-1"),
        ("s3:GetObject", "arn:aws:s3:::another/x"),
    ],
)
def test_nothing_else_is_allowed(statements, action, resource):
    context = OURS | {"iam:PassedToService": "ec2.amazonaws.com"}
    assert not allows(statements, action, resource, context)
