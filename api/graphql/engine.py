"""Runs one GraphQL request, however it came: text and variables in, an answer out."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import graphene
import msgspec
from graphql import ExecutionResult, FieldNode, GraphQLError, OperationType, ValueNode, VariableNode, execute, subscribe
from starlette.requests import HTTPConnection

from api import metrics
from api.graphql.documents import Document, Documents, Operation, Refused
from api.graphql.errors import cause_of, format_error, is_unauthenticated, outcome_of
from api.graphql.limits import Limits, TooMuch, check_texts, weigh
from api.graphql.variables import decode_variables
from jobber import tracing
from jobber.errors import RateLimited

ContextOf = Callable[[HTTPConnection], Awaitable[Any]]


class Asked(msgspec.Struct, frozen=True):
    """The body of a request."""

    query: str
    operation_name: str | None = msgspec.field(default=None, name="operationName")
    #: Not decoded: the operation says how. Empty when there are none. (msgspec takes no Raw that may be None.)
    variables: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    extensions: dict[str, msgspec.Raw] | None = None

    def variables_text(self) -> bytes:
        """The JSON object of them; `{}` when there are none."""
        text = bytes(self.variables)
        return b"{}" if text in (b"", b"null") else text


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    body: dict[str, Any]
    #: The request was run; otherwise it was refused as a whole and `body` has no data.
    ran: bool = True
    #: All that went wrong is that the caller is not logged in.
    unauthenticated: bool = False
    #: Nothing was done because the caller asks too often.
    limited: RateLimited | None = None
    #: It asked for more than one request may.
    too_much: bool = False
    #: The reason for the refusal, when it is not the request's own fault.
    fault: Exception | None = None
    #: For /metrics: ok, refused, unavailable or bug.
    outcome: str = "refused"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that may run."""

    document: Document
    operation: Operation
    variables: dict[str, Any]


class Engine:
    """One schema, with its limits."""

    def __init__(self, schema: graphene.Schema, context_of: ContextOf, limits: Limits, *, development: bool) -> None:
        self.schema = schema.graphql_schema
        self.limits = limits
        self._context_of = context_of
        self._development = development
        self._documents = Documents(self.schema, limits, introspection=development)

    def prepare(self, asked: Asked) -> Prepared | Answer:
        """Check a request; an Answer says why it is refused."""
        try:
            document = self._documents.get(asked.query)
            operation = document.operation(asked.operation_name)
            raw = asked.variables_text()
            variables = decode_variables(raw, operation.variables) if raw != b"{}" else {}
            if not self._development and any(self._knows(name, variables) for name in document.types):
                raise GraphQLError("Introspection is off.")
            check_texts(variables, self.limits)
            if weigh(self.schema, operation.node, document.fragments, variables) > self.limits.cost:
                raise TooMuch("This asks for too much at once; ask for smaller pages.")
        except Refused as refused:
            return self.refuse(*refused.errors)
        except GraphQLError as fault:
            return self.refuse(fault)
        return Prepared(document, operation, variables)

    def _knows(self, node: ValueNode, variables: Mapping[str, Any]) -> bool:
        """Whether it may be the name of a type of this schema."""
        name = variables.get(node.name.value) if isinstance(node, VariableNode) else getattr(node, "value", None)
        # None: a variable's default, which is not looked up here.
        return not isinstance(name, str) or name in self.schema.type_map

    def refuse(self, *errors: GraphQLError) -> Answer:
        """The answer to a request that does not run."""
        metrics.GRAPHQL_REQUESTS.labels(metrics.NOTHING, "refused").inc()
        return Answer(self._body(None, errors), ran=False, too_much=any(isinstance(error, TooMuch) for error in errors))

    async def run(self, prepared: Prepared, connection: HTTPConnection) -> Answer:
        """Run a query or a mutation."""
        began, field = perf_counter(), _field(prepared)
        with tracing.span(field, _parents(connection), root=True, kind="server") as span:
            answer = await self._run(prepared, connection)
            if answer.outcome != "ok":
                span.fail(answer.outcome)
        metrics.GRAPHQL_REQUESTS.labels(field, answer.outcome).inc()
        metrics.GRAPHQL_SECONDS.labels(field).observe(perf_counter() - began)
        return answer

    async def _run(self, prepared: Prepared, connection: HTTPConnection) -> Answer:
        try:
            context = await self._context_of(connection)
        except Exception as fault:
            return self._without_context(fault)
        result = execute(
            self.schema,
            prepared.document.ast,
            context_value=context,
            variable_values=prepared.variables,
            operation_name=_name(prepared),
        )
        return self._answer(result if isinstance(result, ExecutionResult) else await result)

    async def follow(self, prepared: Prepared, connection: HTTPConnection) -> AsyncGenerator[Answer, None] | Answer:
        """Run a subscription: its answers as they come, or one that says why there are none."""
        answers = await self._follow(prepared, connection)
        outcome = answers.outcome if isinstance(answers, Answer) else "ok"
        metrics.GRAPHQL_REQUESTS.labels(_field(prepared), outcome).inc()
        return answers

    async def _follow(self, prepared: Prepared, connection: HTTPConnection) -> AsyncGenerator[Answer, None] | Answer:
        try:
            context = await self._context_of(connection)
        except Exception as fault:
            return self._without_context(fault)
        results = await subscribe(
            self.schema,
            prepared.document.ast,
            context_value=context,
            variable_values=prepared.variables,
            operation_name=_name(prepared),
        )
        if isinstance(results, ExecutionResult):
            return self._answer(results)
        return self._answers(results)

    async def _answers(self, results: AsyncIterator[ExecutionResult]) -> AsyncGenerator[Answer, None]:
        metrics.SUBSCRIPTIONS.inc()
        try:
            async for result in results:
                yield self._answer(result)
        except Exception as fault:  # The source of the subscription itself failed.
            yield self._answer(ExecutionResult(None, [GraphQLError(str(fault), original_error=fault)]))
        finally:
            metrics.SUBSCRIPTIONS.dec()
            await results.aclose()  # type: ignore[attr-defined]  # graphql-core's iterator has it

    def _without_context(self, fault: Exception) -> Answer:
        error = GraphQLError(str(fault), original_error=fault)
        return Answer(
            self._body(None, [error]),
            ran=False,
            unauthenticated=is_unauthenticated(error),
            fault=fault,
            outcome=outcome_of([error]),
        )

    def _answer(self, result: ExecutionResult) -> Answer:
        errors = result.errors or ()
        # Errors without a path came before anything ran: a variable of the wrong type, say.
        ran = not errors or result.data is not None or any(error.path is not None for error in errors)
        refused = bool(errors) and all(is_unauthenticated(error) for error in errors)
        causes = [cause_of(error) for error in errors]
        limited = next((cause for cause in causes if isinstance(cause, RateLimited)), None) if result.data is None else None
        return Answer(
            self._body(result.data, errors, ran=ran),
            ran=ran,
            unauthenticated=refused,
            limited=limited,
            outcome=outcome_of(errors),
        )

    def _body(self, data: Any, errors: Sequence[GraphQLError], *, ran: bool = False) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if errors:
            body["errors"] = [format_error(error, suggestions=self._development) for error in errors]
        if ran:
            body["data"] = data
        return body


def is_subscription(prepared: Prepared) -> bool:
    """Whether it has many answers."""
    return prepared.operation.kind is OperationType.SUBSCRIPTION


def _parents(connection: HTTPConnection) -> list[str]:
    """The trace that the caller wants this to belong to."""
    return connection.headers.getlist(tracing.HEADER) if tracing.on() else []


def _field(prepared: Prepared) -> str:
    """The first root field, as /metrics names a request: the schema bounds how many there are."""
    first = prepared.operation.node.selection_set.selections[0]
    return f"{prepared.operation.kind.value}.{first.name.value}" if isinstance(first, FieldNode) else "fragment"


def _name(prepared: Prepared) -> str | None:
    name = prepared.operation.node.name
    return name.value if name else None
