"""`python -m api.auth.schema` prints the SDL; `api/auth/schema.graphql` is the snapshot that tests compare it with."""

from api.auth.graphql_door import schema
from api.graphql.sdl import sdl

if __name__ == "__main__":
    print(sdl(schema), end="")
