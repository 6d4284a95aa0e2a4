"""The job type of examples/, wholly outside the core: named by module, and installed as a package."""

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from jobber.cli.client import Client
from jobber.model import State
from tests.support import system as running
from tests.support.system import ROOT, System, ended

PRICES = """sku,title,net_price,vat_rate,on_hand
A-1,Kettle,1.50,19,3
A-2,Rake,10.10,7.5,
A-3,,1.00,19,1
A-4,Hose,1.005,19,1
A-5,Gold bar,9999999999.99,19,1
"""


def check(system: System, client: Client, folder: Path) -> None:
    path = folder / "prices.csv"
    path.write_text(PRICES)
    data = {"fileName": client.upload(path)["id"], "supplier": "Harbour"}
    job = ended(client, client.execute("SupplierCatalog", data))
    assert (job.state, job.total, job.loaded, job.rejected) == (State.PARTIAL, 5, 2, 3)
    assert system.loaded(job) == [
        (1, "Harbour Kettle", None, Decimal("1.79"), 3, None, "SKU A-1"),
        (2, "Harbour Rake", None, Decimal("10.86"), None, None, "SKU A-2"),
    ]
    reasons = {(int(group["sample"]["row"]), group["column"], group["code"]) for group in client.reasons(job.id)}
    # The last one is in the contract, but its gross price is more than the table holds.
    assert {(row, column) for row, column, _ in reasons} == {(3, "title"), (4, "net_price"), (5, "price")}


def test_named_by_its_module(system: System, tmp_path: Path) -> None:
    check(system, system.client, tmp_path)


def test_installed_as_a_package(tmp_path: Path) -> None:
    target = tmp_path / "site"
    example = ROOT / "examples" / "supplier_catalog"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, str(example)], check=True)
    path = os.pathsep.join((str(ROOT), str(target)))
    installed = running.start(tmp_path / "data", environment={"PYTHONPATH": path})
    check(installed, installed.client, tmp_path)
    installed.stop()
