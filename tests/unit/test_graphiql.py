"""What GraphiQL shows a newcomer first can be run as it is."""

import re
from importlib.resources import files

from graphql import parse, validate

from api.jobs.graphql_door import schema


def test_the_first_text_fits_the_jobs_service() -> None:
    script = (files("api.graphql") / "explorer" / "start.js").read_text(encoding="utf-8")
    found = re.search(r"const welcome = `(.*?)`;", script, re.DOTALL)
    assert found
    document = parse(found[1])
    assert len(document.definitions) == 2
    assert validate(schema.graphql_schema, document) == []
