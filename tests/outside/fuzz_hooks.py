"""Loaded by schemathesis, in its own virtualenv: what our scalars may look like, good and bad."""

import schemathesis
from graphql import NameNode, ObjectFieldNode
from hypothesis import strategies as st
from schemathesis.graphql import nodes

_texts = st.text(max_size=20)
_leaves = st.none() | st.booleans() | st.integers() | _texts


def _node(value: object) -> object:
    """The value as a literal of a query."""
    if value is None:
        return nodes.Null
    if isinstance(value, bool):
        return nodes.Boolean(value)
    if isinstance(value, int):
        return nodes.Int(value)
    if isinstance(value, list):
        return nodes.List([_node(item) for item in value])
    if isinstance(value, dict):
        fields = [ObjectFieldNode(name=NameNode(value=name), value=_node(item)) for name, item in value.items()]
        return nodes.Object(fields)
    return nodes.String(str(value))


_records = st.fixed_dictionaries({"name": _texts, "price": st.integers(-1, 100)})
_names = st.sampled_from(["id", "name", "price", "fileName", "records", "x"])
_values = st.one_of(_leaves, st.lists(_records, max_size=3), st.lists(_leaves, max_size=3), st.dictionaries(_names, _leaves))
_moments = st.datetimes().map(lambda moment: f"{moment.isoformat()}Z") | _texts

schemathesis.graphql.scalar("JSON", _values.map(_node))
schemathesis.graphql.scalar("DateTime", _moments.map(nodes.String))
schemathesis.graphql.scalar("Long", (st.integers(-(1 << 64), 1 << 64)).map(nodes.Int))
