"""host.resctrl_stats: a made-up resctrl → runc's IntelRdt."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirt.errors import KernelError
from ocirt.host.resctrl_stats import resctrl_stats

INFO = {
    "L3/cbm_mask": "fffff\n",
    "L3/min_cbm_bits": "1\n",
    "L3/num_closids": "16\n",
    "MB/bandwidth_gran": "10\n",
    "MB/delay_linear": "1\n",
    "MB/min_bandwidth": "10\n",
    "MB/num_closids": "8\n",
    "L3_MON/mon_features": "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\nmbm_local_bytes_config\n",
}
OWN = "    MB:0=20;1=70\n    L3:0=f;1=ff\n"


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """With the class "c" and the monitoring group "m" in it."""
    for name, content in INFO.items():
        write(tmp_path / "info" / name, content)
    write(tmp_path / "schemata", "    MB:0=100;1=100\n    L3:0=fffff;1=fffff\n")
    write(tmp_path / "c/schemata", OWN)
    for group, base in (("c", 100), ("c/mon_groups/m", 1)):
        for domain in (0, 1):
            folder = tmp_path / group / f"mon_data/mon_L3_0{domain}"
            write(folder / "llc_occupancy", f"{base + domain}\n")
            write(folder / "mbm_total_bytes", f"{base + domain + 10}\n")
            write(folder / "mbm_local_bytes", "Unavailable\n")
    return tmp_path


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_what_is_allotted_and_what_is_counted(mount: Path) -> None:
    assert resctrl_stats(str(mount), f"{mount}/c", f"{mount}/c/mon_groups/m") == {
        "l3_cache_info": {"cbm_mask": "fffff", "min_cbm_bits": 1, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=fffff;1=fffff",
        "l3_cache_schema": "L3:0=f;1=ff",
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
        "mem_bw_schema_root": "MB:0=100;1=100",
        "mem_bw_schema": "MB:0=20;1=70",
        "schemata": ["MB:0=20;1=70", "L3:0=f;1=ff"],
        "mbm_stats": [
            {"mbm_total_bytes": 11, "mbm_local_bytes": 0},
            {"mbm_total_bytes": 12, "mbm_local_bytes": 0},
        ],
        "cmt_stats": [{"llc_occupancy": 1}, {"llc_occupancy": 2}],
    }


def test_without_a_monitoring_group_the_classs_counts_are_taken(mount: Path) -> None:
    assert resctrl_stats(str(mount), f"{mount}/c", "")["cmt_stats"] == [{"llc_occupancy": 100}, {"llc_occupancy": 101}]


def test_a_processor_with_the_cache_alone(mount: Path) -> None:
    for name in INFO:
        if not name.startswith("L3/"):
            (mount / "info" / name).unlink()
    for kind in ("MB", "L3_MON"):
        (mount / "info" / kind).rmdir()
    found = resctrl_stats(str(mount), f"{mount}/c", "")
    assert set(found) == {"l3_cache_info", "l3_cache_schema_root", "l3_cache_schema", "schemata"}


def test_a_class_that_is_gone_is_an_error(mount: Path) -> None:
    with pytest.raises(KernelError, match="read the statistics of resctrl"):
        resctrl_stats(str(mount), f"{mount}/gone", "")
