"""What one request may ask: limits that are checked before anything runs, each in time linear in the query's text.

    text ── scan: length, tokens, brackets ── parse ── measure: depth, aliases, fields, repeats ── validate ── weigh: cost

`scan` comes before the parser, which takes 10 µs a token; `measure` before validation, which compares fields in pairs.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
    get_named_type,
)

from jobber.settings import DoorSettings

#: What is selected is written by people and generators; what is larger is an attack.
SELECTION_TOKENS = 3_000


class TooMuch(GraphQLError):
    """The request asks for more than one request may."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask; a request beyond them is refused before anything of it runs."""

    #: Of the whole body: inline data travels in it.
    body_bytes: int = 32 << 20
    #: Of the query's text. Larger data belongs into variables, where it is not parsed as GraphQL.
    query_chars: int = 256 << 10
    #: Tokens outside of parentheses: what is selected. The introspection query has 300.
    selection_tokens: int = SELECTION_TOKENS
    #: All tokens: 50 rows of 6 fields, written as literals, are 1,000.
    tokens: int = 15_000
    #: Brackets in each other. Deeper JSON belongs into variables.
    nesting: int = 100
    #: Fields in each other. The introspection query has 13 to 15.
    depth: int = 20
    aliases: int = 50
    #: Fields after fragments are expanded. The introspection query has 250.
    fields: int = 1_000
    #: The same name in one selection; validation compares them in pairs.
    repeats: int = 20
    fragments: int = 50
    #: Mutations in one request: they run one after the other, and each may be a login.
    mutations: int = 10
    #: Fields times the pages that they are on.
    cost: int = 100_000
    #: One text, be it a literal or in a variable. None: as long as the body.
    text_chars: int | None = None

    @staticmethod
    def of(settings: DoorSettings, *, text_chars: int | None = None) -> "Limits":
        """As the settings have them."""
        return Limits(
            body_bytes=settings.graphql_body_bytes,
            query_chars=settings.graphql_query_chars,
            selection_tokens=min(SELECTION_TOKENS, settings.graphql_tokens),
            tokens=settings.graphql_tokens,
            depth=settings.graphql_depth,
            aliases=settings.graphql_aliases,
            fields=settings.graphql_fields,
            mutations=settings.graphql_mutations,
            cost=settings.graphql_cost,
            text_chars=text_chars,
        )


_SCAN = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""|"(?:[^"\\\n\r]|\\.)*"|#[^\n\r]*|[\w.+-]+|[^\w\s,.+"#-]|"', re.DOTALL)


def scan(text: str, limits: Limits) -> None:
    """Refuse a query by its text. Tells tokens apart only as well as counting needs.

    Raises TooMuch.
    """
    if len(text) > limits.query_chars:
        raise TooMuch(
            f"The query is longer than {limits.query_chars:,} characters; send data as a variable instead of a literal."
        )
    tokens = selected = deepest = nesting = parentheses = 0
    for match in _SCAN.finditer(text):
        token = match[0]
        first = token[0]
        if first == "#":
            continue
        if first == '"' and limits.text_chars is not None and len(token) > limits.text_chars:
            raise TooMuch(f"A text has at most {limits.text_chars:,} characters.")
        tokens += 1
        if first in "([{":
            nesting += 1
            deepest = max(deepest, nesting)
            parentheses += first == "("
        elif first in ")]}":
            nesting -= 1
            parentheses -= first == ")"
        if parentheses <= 0:
            selected += 1
        if tokens > limits.tokens or selected > limits.selection_tokens or deepest > limits.nesting:
            raise TooMuch("The query has too many tokens or is nested too deeply; send data as a variable.")


@dataclass(frozen=True, slots=True)
class _Size:
    """Of a selection, fragments expanded."""

    fields: int
    depth: int
    names: Mapping[str, int]


def measure(document: DocumentNode, limits: Limits) -> None:
    """Refuse a document by its size with all fragments expanded, without expanding them.

    Raises TooMuch.
    """
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    if len(fragments) > limits.fragments:
        raise TooMuch(f"More than {limits.fragments} fragments.")
    known: dict[str, _Size | None] = {}
    aliases = 0

    def of_fragment(name: str) -> _Size:
        if name not in fragments:
            return _Size(0, 0, {})  # Validation says so.
        if name not in known:
            known[name] = None
            known[name] = of_selection(fragments[name].selection_set)
        size = known[name]
        if size is None:
            raise TooMuch(f"Fragment {name} contains itself.")
        return size

    def of_selection(selection: SelectionSetNode | None) -> _Size:
        nonlocal aliases
        fields = depth = 0
        names: Counter[str] = Counter()
        for node in selection.selections if selection else ():
            if isinstance(node, FieldNode):
                aliases += node.alias is not None
                below = of_selection(node.selection_set)
                fields, depth = fields + 1 + below.fields, max(depth, 1 + below.depth)
                names[(node.alias or node.name).value] += 1
            else:
                below = of_fragment(node.name.value) if isinstance(node, FragmentSpreadNode) else of_selection(_inner(node))
                fields, depth = fields + below.fields, max(depth, below.depth)
                names.update(below.names)
        if names and max(names.values()) > limits.repeats:
            raise TooMuch(f"The same field more than {limits.repeats} times in one selection.")
        if fields > limits.fields:
            raise TooMuch(f"More than {limits.fields:,} fields.")
        if depth > limits.depth:
            raise TooMuch(f"Fields are nested more than {limits.depth} deep.")
        return _Size(fields, depth, names)

    for name in fragments:
        of_fragment(name)
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            size = of_selection(node.selection_set)
            if node.operation is OperationType.MUTATION and sum(size.names.values()) > limits.mutations:
                raise TooMuch(f"More than {limits.mutations} mutations in one request.")
    if aliases > limits.aliases:
        raise TooMuch(f"More than {limits.aliases} aliases.")


def check_texts(value: object, limits: Limits) -> None:
    """Refuse variables with a text that is too long.

    Raises TooMuch.
    """
    waiting = [value] if limits.text_chars is not None else []
    while waiting:
        item = waiting.pop()
        if isinstance(item, str) and len(item) > (limits.text_chars or 0):
            raise TooMuch(f"A text has at most {limits.text_chars:,} characters.")
        if isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def weigh(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    variables: Mapping[str, Any],
) -> int:
    """How many fields a valid operation may have to resolve: a list with `first: n` counts what is in it n times."""
    known: dict[str, int] = {}

    def of(selection: SelectionSetNode | None, parent: Any) -> int:
        total = 0
        for node in selection.selections if selection else ():
            if isinstance(node, FieldNode):
                field = parent.fields.get(node.name.value) if hasattr(parent, "fields") else None
                below = of(node.selection_set, get_named_type(field.type)) if field else 0
                total += 1 + below * _page(node, field, variables)
            elif isinstance(node, FragmentSpreadNode):
                name = node.name.value
                if name not in known:
                    fragment = fragments[name]
                    known[name] = of(fragment.selection_set, schema.get_type(fragment.type_condition.name.value))
                total += known[name]
            else:
                inner: Any = node
                condition = inner.type_condition
                total += of(inner.selection_set, schema.get_type(condition.name.value) if condition else parent)
        return total

    root: GraphQLObjectType | None = schema.get_root_type(operation.operation)
    return of(operation.selection_set, root)


def _page(node: FieldNode, field: Any, variables: Mapping[str, Any]) -> int:
    """The size of the page that the field asks for; 1 for what is not paged."""
    declared = field.args.get("first") if field else None
    if declared is None:
        return 1
    size: Any = declared.default_value
    for argument in node.arguments:
        if argument.name.value == "first":
            if isinstance(argument.value, IntValueNode):
                size = int(argument.value.value)
            elif isinstance(argument.value, VariableNode):
                size = variables.get(argument.value.name.value, size)
    return max(1, size) if isinstance(size, int) else 1


def _inner(node: Any) -> SelectionSetNode | None:
    assert isinstance(node, InlineFragmentNode)
    return node.selection_set
