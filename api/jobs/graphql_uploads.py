"""Uploads in pieces in the GraphQL schema: made here, sent by tus."""

from typing import Any

import graphene

from api.graphql.scalars import DateTime, Long
from api.graphql.types import Node, UserError, user_error
from api.jobs.context import Context
from api.jobs.graphql_enums import Compression, FileFormat
from api.jobs.staging_store import Staged
from api.jobs.tus_door import ROOT, sha256_from
from jobber.errors import InvalidData, JobberError, NotFound
from jobber.ids import is_id


class StagedUpload(graphene.ObjectType):
    """A file that is being uploaded in pieces, or has been uploaded."""

    class Meta:  # noqa: D106
        interfaces = (Node,)

    tus_url = graphene.String(required=True, description="Where to send its pieces, by tus 1.0.")
    offset = Long(required=True, description="Bytes that are stored durably.")
    complete = graphene.Boolean(required=True, description="Whether jobs can use it.")
    expires_at = graphene.Field(DateTime, required=True)

    @staticmethod
    def of(staged: Staged, context: Context) -> "StagedUpload":
        """As people see it."""
        return StagedUpload(
            id=staged.id,
            tus_url=f"{context.base_url}{ROOT}/{staged.id}",
            offset=staged.received,
            complete=staged.complete,
            expires_at=staged.expires_at,
        )


class UploadPayload(graphene.ObjectType):
    """A place for a file, or why there is none."""

    upload = graphene.Field(StagedUpload)
    user_errors = graphene.List(graphene.NonNull(UserError), required=True)


class UploadInput(graphene.InputObjectType):
    """Which file will come."""

    filename = graphene.String(required=True)
    bytes = Long(required=True)
    sha256 = graphene.String(description="Of the whole file, in hexadecimal: what comes is checked against it.")
    format = graphene.InputField(FileFormat, required=True, description="Used for jobs that do not say another one.")
    compression = graphene.InputField(Compression, default_value="NONE", description="Told by the content.")


class UploadCreate(graphene.Mutation):
    """Make a place for a file, which is then sent in pieces by tus: what was interrupted goes on where it stopped."""

    class Arguments:  # noqa: D106
        input = UploadInput(required=True)

    Output = graphene.NonNull(UploadPayload)

    @staticmethod
    async def mutate(root: Any, info: graphene.ResolveInfo, input: Any) -> UploadPayload:
        """Answer it once it is stored."""
        context: Context = info.context
        owner = context.may_submit()
        try:
            if not input["filename"]:
                raise InvalidData("A file has a name.")
            staged = await context.services.staging.create(
                owner,
                input["filename"],
                input["bytes"],
                context.who.actor,
                sha256=sha256_from(input["sha256"]) if input.get("sha256") is not None else None,
                format=input["format"],
            )
        except JobberError as fault:
            return UploadPayload(upload=None, user_errors=[user_error(fault)])
        return UploadPayload(upload=StagedUpload.of(staged, context), user_errors=[])


async def find_upload(context: Context, upload_id: str) -> StagedUpload | None:
    """The caller's upload; None when there is none."""
    _ = context.sees
    try:
        if not is_id(upload_id.lower()):
            return None
        return StagedUpload.of(await context.services.staging.find(context.who.id, upload_id.lower()), context)
    except NotFound:
        return None
