"""What a program with many containers remembers: found again it is what would be made anew; and it does not grow."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plan.cases import CASES, config_of
from plan.test_encode import Read, check_step

from ocirt.config.read import Config
from ocirt.errors import ConfigError, PlanError
from ocirt.plan.compile import compile_plan
from ocirt.plan.encode import Encoded, encode
from ocirt.plan.facts import Facts, Filter, Hierarchy
from ocirt.plan.scope import Compiled
from ocirt.plan.syscalls import MACHINES
from ocirt.runtime import remembered
from ocirt.runtime.remembered import Memory, RememberingCreation
from ocirt.runtime.spec import default_spec


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    remembered.configs.clear()
    remembered.plans.clear()
    yield
    remembered.configs.clear()
    remembered.plans.clear()


def planned(config: Config, facts: Facts) -> tuple[Compiled, Encoded]:
    creation = RememberingCreation.__new__(RememberingCreation)
    creation.config, creation.facts = config, facts
    return creation._plan()


def facts_of(name: str, container_id: str) -> Facts:
    """Of a container whose cgroups have its name, on all hierarchies."""
    facts = dict(CASES[name][1])
    facts["hierarchies"] = tuple(
        Hierarchy(one.name, one.options, f"{one.source.rpartition('/')[0]}/{container_id}", one.v2)
        for one in facts.get("hierarchies", ())
    )
    return Facts(rootfs="/bundle/rootfs", container_id=container_id, **facts)


def config_for(name: str) -> Config:
    spec = copy.deepcopy(default_spec())
    CASES[name][0](spec)
    config = config_of(spec)
    config.text = json.dumps(spec)
    return config


@pytest.mark.parametrize("name", CASES)
def test_a_plan_that_is_found_is_the_one_that_would_be_compiled(name: str) -> None:
    """The second time only the names differ from the first, and all else that is read by init is as without memory."""
    config = config_for(name)
    made = [planned(config, facts_of(name, container_id)) for container_id in ("one", "another", "x")]
    assert len({id(compiled) for compiled, _ in made}) == 1
    for (_, encoded), container_id in zip(made, ("one", "another", "x"), strict=True):
        fresh = compile_plan(config, facts_of(name, container_id)).plan
        slots = dict(zip(encode(fresh).slots, encoded.slots.values(), strict=True))
        here = Encoded(encoded.content, slots)
        read = Read(here)
        assert len(read.steps) == len(fresh.steps)
        for step, fields in zip(fresh.steps, read.steps, strict=True):
            check_step(read, here, step, fields, MACHINES[fresh.machine][1])


def test_nothing_of_one_container_is_in_the_plan_of_another() -> None:
    config = config_for("v1-without-cgroup-namespace")
    planned(config, facts_of("v1-without-cgroup-namespace", "longer-than-the-next"))
    _, second = planned(config, facts_of("v1-without-cgroup-namespace", "next"))
    assert b"longer" not in second.content
    assert b"_ses.next\0" in second.content


OTHER: dict[str, Any] = {
    "machine": "aarch64",
    "rootfs": "/elsewhere",
    "directories": {"/tmp": True},
    "symlinks": {"/tmp": "/var"},
    "last_capability": 39,
    "permitted": 1,
    "unprivileged": True,
    "nested": True,
    "foreign": ("network",),
    "place": "/home",
    "groups_denied": True,
    "kept": {"/tmp": 1},
    "hierarchies": (Hierarchy("memory", (), "/sys/fs/cgroup/memory/one", False),),
    "pure_v2": True,
    "into_cgroup": True,
    "attached_late": False,
    "joined": ("network",),
    "shared": ("pid",),
    "security_modules": ("selinux",),
    "preserved": 1,
    "listened": 1,
    "new_keyring": False,
    "unpivoted": ("/proc",),
    "user_maps": 1,
    "wait_for_start": False,
    "window": (24, 80),
    "seccomp": Filter(bytes(8), 0),
}


def test_every_fact_but_the_names_tells_plans_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is added to the facts: a plan is used again only where all of them are the same."""
    assert set(OTHER) == set(Facts.__slots__) - {"container_id"}
    made: list[Facts] = []

    def compiled(config: Config, facts: Facts) -> Compiled:
        made.append(facts)
        return compile_plan(config_for("default"), Facts())

    monkeypatch.setattr(remembered, "compile_plan", compiled)
    monkeypatch.setattr(Facts, "own", lambda facts: {"keyring": "", "cgroup memory": ""})
    config = config_for("default")
    planned(config, Facts())
    planned(config, Facts(container_id="other"))
    assert len(made) == 1
    for number, (name, value) in enumerate(OTHER.items(), 2):
        planned(config, Facts(**{name: value}))
        planned(config, Facts(**{name: value}, container_id="other"))
        assert len(made) == number, name
    config.text += " "
    planned(config, Facts())
    config.bundle = "/other"
    planned(config, Facts())
    assert len(made) == number + 2


def test_filters_and_hierarchies_are_told_apart_by_what_they_are() -> None:
    plain = Filter(bytes(8), 0)
    others = [
        Filter(b"1234567\0", 0),
        Filter(bytes(8), 1),
        Filter(bytes(8), 0, ("a",)),
        Filter(bytes(8), 0, blocks=True),
    ]
    assert len({remembered._hashable(one) for one in [plain, Filter(bytes(8), 0), *others]}) == 5
    one = ("memory", (("memory", None),), "/x", False)
    same = [
        Hierarchy(*one),
        Hierarchy("pids", *one[1:]),
        Hierarchy("memory", (), "/x", False),
        Hierarchy(*one[:3], True),
    ]
    assert len({remembered._hashable((hierarchy,)) for hierarchy in same}) == 4


def test_what_is_refused_is_refused_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PlanError("no")

    monkeypatch.setattr(remembered, "verify", refuse)
    for _ in range(2):
        with pytest.raises(PlanError):
            planned(config_for("default"), facts_of("default", "one"))
    monkeypatch.undo()
    planned(config_for("default"), facts_of("default", "one"))


def test_a_configuration_that_the_host_has_added_to_is_not_remembered() -> None:
    config = config_for("default")
    config.added = True
    planned(config, facts_of("default", "one"))
    assert remembered.plans.size == 0


def loaded(bundle: str, text: str) -> Config:
    return RememberingCreation.__new__(RememberingCreation)._load(bundle, None, text)


def test_a_configuration_is_a_new_value_each_time(tmp_path: Path) -> None:
    text = json.dumps(default_spec())
    first = loaded(str(tmp_path), text)
    first.spec["process"]["args"] = ["changed"]
    first.warnings.append("changed")
    second, third = loaded(str(tmp_path), text), loaded("/", text)
    assert second.spec == third.spec == default_spec()
    assert second.warnings == [] and second.text == text
    assert (second.bundle, third.bundle) == (str(tmp_path), "/")


def test_warnings_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = remembered.checked

    def warned(text: str, folder: str, path: str) -> Config:
        config = checked(text, folder, path)
        config.warnings.append("beware")
        return config

    monkeypatch.setattr(remembered, "checked", warned)
    for _ in range(3):
        assert loaded(str(tmp_path), json.dumps(default_spec())).warnings == ["beware"]


def test_a_wrong_configuration_is_wrong_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ConfigError):
            loaded(str(tmp_path), '{"ociVersion": "1.2.0", "process": 1}')
    assert remembered.configs.size == 0


def test_a_file_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    spec = default_spec()
    for name in ("one", "two"):
        spec["hostname"] = name
        (tmp_path / "config.json").write_text(json.dumps(spec))
        config = RememberingCreation.__new__(RememberingCreation)._load(str(tmp_path), None, None)
        assert config.spec["hostname"] == name


def test_memory_is_bounded_and_what_was_used_stays() -> None:
    memory: Memory[int] = Memory(100)
    for number in range(10):
        memory.put(number, number, 25)
        assert memory.get(0) == 0
        assert memory.size <= 100
    assert [memory.get(number) for number in range(10)] == [0, *[None] * 6, 7, 8, 9]
    memory.put("large", 0, 101)
    assert memory.get("large") is None
    memory.put(9, 10, 100)
    assert memory.get(9) == 10 and memory.size == 100


def test_threads_share_memory() -> None:
    """Many at a time, with more than there is room for: whoever finds something finds the right thing."""
    memory: Memory[int] = Memory(10)
    wrong: list[object] = []

    def work(seed: int) -> None:
        for number in range(3000):
            key = (number * seed) % 17
            found = memory.get(key)
            if found is not None and found != key * 2:
                wrong.append(found)
            memory.put(key, key * 2, key % 3 + 1)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 0 < memory.size <= 10
    assert memory.size == sum(size for _, size in memory._values.values())
