import importlib.util
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dev(tmp_path: Path) -> ModuleType:
    """dev.py, as if its checkout were a temporary folder."""
    copy = tmp_path / "check out" / "dev.py"
    copy.parent.mkdir()
    copy.write_text((ROOT / "dev.py").read_text())
    (copy.parent / "requirements.lock").write_text("one==1 \\\n    --hash=sha256:00\n")
    spec = importlib.util.spec_from_file_location("dev_under_test", copy)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finish(dev: ModuleType) -> None:
    """What `install` leaves, without a package index."""
    dev.PYTHON.parent.mkdir(parents=True, exist_ok=True)
    dev.PYTHON.touch(mode=0o755)
    (dev.VENV / "lib" / "python3" / "site-packages" / "one-1.dist-info").mkdir(parents=True, exist_ok=True)
    dev.MARKER.write_text(json.dumps(dev.key() | {"packages": sorted(dev.packages())}))


def installs(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Installing takes no time, and is counted."""
    made: list[int] = []

    def install() -> None:
        made.append(1)
        finish(dev)

    monkeypatch.setattr(dev, "install", install)
    return made


def test_a_virtualenv_is_made_once(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made = installs(dev, monkeypatch)
    dev.prepare()
    dev.prepare()
    assert made == [1]


def test_it_is_made_again_when_the_lock_changes_or_something_is_gone(dev: ModuleType) -> None:
    finish(dev)
    assert dev.is_whole()
    dev.LOCK.write_text("one==2 \\\n    --hash=sha256:00\n")
    assert not dev.is_whole()
    finish(dev)
    (dev.VENV / "lib" / "python3" / "site-packages" / "one-1.dist-info").rmdir()
    assert not dev.is_whole()
    finish(dev)
    dev.PYTHON.unlink()
    assert not dev.is_whole()
    finish(dev)
    dev.MARKER.write_text("{ half")
    assert not dev.is_whole()


def test_several_at_once_make_it_once(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made = installs(dev, monkeypatch)
    threads = [threading.Thread(target=dev.prepare) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_another_python_gets_a_sentence(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev.sys, "version_info", (3, 13, 0))
    assert dev.main(["test"]) == 1
    assert "needs Python 3.11 or 3.12" in capsys.readouterr().err


def test_a_failed_install_says_what_to_do(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('no network')"]
    monkeypatch.setattr(dev, "make_venv", lambda: failing)
    assert dev.main(["lint"]) == 1
    told = capsys.readouterr().err
    assert "no network" in told
    assert "run the same command again" in told
    assert not dev.is_whole()


def test_it_can_be_read_by_an_older_python_and_shows_its_commands() -> None:
    shown = subprocess.run([sys.executable, "-I", str(ROOT / "dev.py"), "--help"], capture_output=True, text=True, check=True)
    assert "python dev.py demo" in shown.stdout
    compile((ROOT / "dev.py").read_text(), "dev.py", "exec", dont_inherit=True)


def test_the_lock_holds_names_versions_and_hashes_only() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    entries = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert all("==" in entry for entry in entries)
    assert text.count("--hash=sha256:") > len(entries)
