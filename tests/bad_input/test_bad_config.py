"""A config.json that cannot be run is refused by every verb that makes a container: in one line, without a trace."""

from __future__ import annotations

import json
from typing import Any

import bad_hooks
import pytest
from bad_checks import VERBS, one_line, one_log_entry, refused, same
from bad_devices import DEVICES
from bad_net_and_rdt import NET_AND_RDT
from bad_process import PROCESS
from bad_resources import RESOURCES
from bad_seccomp import SECCOMP
from bad_texts import TEXTS, Text
from bad_values import MEANING, TYPES, Case
from support import Bundle, Runtime, traces

pytestmark = pytest.mark.root
all_verbs = pytest.mark.parametrize("verb", VERBS)


def cases(table: list[Any]) -> pytest.MarkDecorator:
    names = [case.name for case in table]
    assert len(set(names)) == len(names), "two cases have one name"
    return pytest.mark.parametrize("case", table, ids=names)


@all_verbs
@cases(TYPES + bad_hooks.TYPES)
def test_a_value_of_the_wrong_type_is_refused(runtime: Runtime, light_bundle: Bundle, case: Case, verb: str) -> None:
    case.spoil(light_bundle.config)
    refused(runtime, light_bundle.write(), verb, case.pointer, case.words)


@all_verbs
@cases(MEANING + DEVICES + PROCESS + bad_hooks.MEANING + SECCOMP)
def test_a_value_that_makes_no_sense_is_refused(runtime: Runtime, light_bundle: Bundle, case: Case, verb: str) -> None:
    case.spoil(light_bundle.config)
    refused(runtime, light_bundle.write(), verb, case.pointer, case.words)


@cases(RESOURCES + NET_AND_RDT)
def test_what_few_configurations_have_is_refused_if_it_makes_no_sense(
    runtime: Runtime, light_bundle: Bundle, case: Case
) -> None:
    case.spoil(light_bundle.config)
    refused(runtime, light_bundle.write(), "create", case.pointer, case.words)


@all_verbs
@cases(TEXTS)
def test_what_is_not_json_is_refused_with_line_and_column(
    runtime: Runtime, light_bundle: Bundle, case: Text, verb: str
) -> None:
    path = light_bundle.path / "config.json"
    path.write_bytes(case.spoil(json.dumps(light_bundle.config, indent=1)))
    log = light_bundle.path / "log.json"
    before = traces(runtime.root)
    words = (*VERBS[verb], "--bundle", light_bundle.path, "bad")
    done = runtime("--log", log, "--log-format", "json", *words)
    line = one_line(done, (f"ocirt: {path}:{case.place}{'' if case.place.endswith(':') else ': '}", *case.words))
    one_log_entry(log, line)
    same(before, traces(runtime.root))


def test_an_unknown_capability_is_only_warned_of_since_1_1(runtime: Runtime, light_bundle: Bundle) -> None:
    light_bundle.config["ociVersion"] = "1.1.0"
    light_bundle.config["process"]["capabilities"]["bounding"].append("CAP_SYSADMIN")
    light_bundle.write()
    done = runtime("run", "--bundle", light_bundle.path, "quiet")
    assert (done.code, done.err) == (0, "")
    done = runtime("--debug", "create", "--bundle", light_bundle.path, "loud")
    assert done.code == 0
    assert 'warning: /process/capabilities/bounding/3: unknown capability "CAP_SYSADMIN": ignored' in done.err
