"""`python -m api.jobs.schema` prints the SDL; `api/jobs/schema.graphql` is the snapshot that tests compare it with."""

from api.graphql.sdl import sdl
from api.jobs.graphql_door import schema

if __name__ == "__main__":
    print(sdl(schema), end="")
