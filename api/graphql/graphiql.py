"""GraphiQL for development: everything it needs lies here, so that it works without the internet. Production has none."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from jobber.errors import NotFound

FOLDER = Path(__file__).parent / "explorer"
#: What is served, and as what.
FILES = {
    "graphiql.min.css": "text/css",
    "graphiql.min.js": "text/javascript",
    "react.production.min.js": "text/javascript",
    "react-dom.production.min.js": "text/javascript",
    "start.js": "text/javascript",
}
#: Scripts only of ours, none of them inline. The editor sets styles of elements.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>GraphiQL · Jobber</title>
<link rel="stylesheet" href="{base}/graphiql.min.css">
<body style="margin:0">
<div id="graphiql" style="height:100vh"></div>
<script src="{base}/react.production.min.js"></script>
<script src="{base}/react-dom.production.min.js"></script>
<script src="{base}/graphiql.min.js"></script>
<script src="{base}/start.js"></script>
</body>
</html>
"""


async def page(request: Request) -> Response:
    """The page for a browser that opens the GraphQL address."""
    return HTMLResponse(PAGE.format(base=f"{request.url.path}/explorer"), headers={"content-security-policy": POLICY})


async def asset(request: Request) -> Response:
    """One of FILES. Raises NotFound."""
    name = request.path_params["name"]
    if name not in FILES:
        raise NotFound
    return FileResponse(FOLDER / name, media_type=FILES[name], headers={"cache-control": "max-age=3600"})


def asset_route(path: str) -> Route:
    """Beneath the GraphQL address."""
    return Route(f"{path}/explorer/{{name}}", asset, methods=["GET"])
