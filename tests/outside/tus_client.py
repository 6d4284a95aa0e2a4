"""tuspy, as its readme uses it: `tus_client.py URL FILE TOKEN`. It runs in a virtualenv that has nothing of ours."""

import sys
from importlib import import_module
from typing import Any

#: So that some requests are under way when the service is killed.
CHUNK = 128 << 10

url, path, token = sys.argv[1:]
made: Any = import_module("tusclient.client").TusClient(url, headers={"Authorization": f"Bearer {token}"})
uploader = made.uploader(
    path, chunk_size=CHUNK, metadata={"filename": "tus.csv"}, retries=60, retry_delay=1, upload_checksum=True
)
asked = 0
perform = uploader._do_request


def counted() -> None:
    """As it is, and counted."""
    global asked
    asked += 1
    perform()


uploader._do_request = counted
uploader.upload()
size = uploader.get_file_size()
assert (uploader.offset, uploader.get_offset()) == (size, size)
assert asked > -(-size // CHUNK), "no request had to be sent again: the service was not killed in the middle"
print(f"{size:,} bytes in {asked} requests")
