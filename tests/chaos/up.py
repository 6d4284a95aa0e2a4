"""`jobber up` whose services reach each other and the database through toxiproxy (`python -m tests.chaos.up API up …`)."""

import sys

from jobber.cli import main, up
from jobber.local.up import Up
from tests.chaos import toxiproxy

API = sys.argv[1]


class ProxiedUp(Up):
    """The same processes; their addresses of each other are proxies."""

    def _environment(self) -> dict[str, str]:
        common = super()._environment()
        server = self._database.server
        listen = toxiproxy.proxy(API, "database", f"127.0.0.1:{server.port}")
        common["DATABASE_URL"] = common["DATABASE_URL"].replace(f":{server.port}", f":{listen.rpartition(':')[2]}")
        return common

    def _addresses(self, role: str) -> str:
        if role not in self._proxied:
            real = super()._addresses(role).split(",")
            self._proxied[role] = ",".join(
                toxiproxy.proxy(API, f"{role}-{number}", address) for number, address in enumerate(real, 1)
            )
        return self._proxied[role]

    _proxied: dict[str, str]


ProxiedUp._proxied = {}

if __name__ == "__main__":
    up.Up = ProxiedUp  # type: ignore[attr-defined]
    sys.argv = ["jobber", *sys.argv[2:]]
    main()
