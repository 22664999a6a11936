from pathlib import Path

from services.common.fingerprint import fingerprint

CPU = "processor\t: {n}\nmodel name\t: Example CPU 9000\nMHz\t: {mhz}\n\n"


def a_machine(root: Path, machine_id: str = "0123", cpus: int = 2, mhz: int = 3000) -> Path:
    for folder in ("etc", "proc", "sys/class/dmi/id"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "etc/machine-id").write_text(machine_id + "\n")
    (root / "proc/cpuinfo").write_text("".join(CPU.format(n=n, mhz=mhz) for n in range(cpus)))
    (root / "sys/class/dmi/id/product_name").write_text("Example Server\n")
    return root


def test_it_stays_the_same_with_other_limits_and_another_clock_rate(tmp_path: Path) -> None:
    first = fingerprint(a_machine(tmp_path / "a"), "x86_64")
    assert fingerprint(a_machine(tmp_path / "b", cpus=1, mhz=1200), "x86_64") == first
    assert len(bytes.fromhex(first)) == 32


def test_another_machine_id_processor_or_architecture_is_another_machine(tmp_path: Path) -> None:
    first = a_machine(tmp_path / "a")
    other_id = a_machine(tmp_path / "b", machine_id="4567")
    other_cpu = a_machine(tmp_path / "c")
    (other_cpu / "proc/cpuinfo").write_text("model name : Another CPU\n")
    found = {fingerprint(machine, "x86_64") for machine in (first, other_id, other_cpu)}
    assert len(found | {fingerprint(first, "aarch64")}) == 4


def test_missing_facts_are_left_out(tmp_path: Path) -> None:
    assert fingerprint(tmp_path, "x86_64") == fingerprint(tmp_path / "nowhere", "x86_64")
    assert fingerprint()
