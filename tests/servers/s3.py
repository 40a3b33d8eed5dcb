"""S3 server (moto) with a bucket and a user whose permissions a test chooses."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from typing import Any

import urllib3

from tests.servers.processes import Server
from tests.servers.services import missing

BUCKET = "media"
#: What an S3 server answers to HEAD of a missing key depends on the permission s3:ListBucket, as
#: described in its API reference for HeadObject. moto always answers 404.
_SERVER = """
import sys
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

moto = DomainDispatcherApplication(create_backend_app)

def hide_missing_keys(environ, start_response):
    def start(status, headers, *rest):
        is_hidden = environ["REQUEST_METHOD"] == "HEAD" and status.startswith("404")
        return start_response("403 FORBIDDEN" if is_hidden else status, headers, *rest)
    return moto(environ, start)

run_simple("127.0.0.1", int(sys.argv[1]), hide_missing_keys, threaded=True,
           request_handler=MotoRequestHandler)
"""


class S3(Server):
    """Server on loopback with a bucket; `allow` sets the permissions of the site."""

    name = "s3"

    def command(self) -> list[str]:
        for package in ("boto3", "flask", "moto", "storages"):
            if find_spec(package) is None:
                missing(f"{package} is not installed: pip install moto[s3,server] django-storages")
        return [sys.executable, "-c", _SERVER, str(self.port)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "1000000"}

    def is_ready(self) -> bool:
        """Create the bucket and the user."""
        if self._request("GET", "/moto-api/data.json").status != 200:
            return False
        self._client("s3").create_bucket(Bucket=BUCKET)
        iam = self._client("iam")
        iam.create_user(UserName="site")
        self._key: dict[str, str] = iam.create_access_key(UserName="site")["AccessKey"]
        return True

    def allow(self, *actions: str) -> None:
        """Allow the site only these actions on the objects of the bucket."""
        self._require_permissions(is_required=False)
        statement = {
            "Effect": "Allow",
            "Action": [f"s3:{action}" for action in actions],
            "Resource": f"arn:aws:s3:::{BUCKET}/*",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._client("iam").put_user_policy(
            UserName="site", PolicyName="site", PolicyDocument=policy
        )
        self._require_permissions(is_required=True)

    def keys(self) -> list[str]:
        """Return the keys in the bucket."""
        self._require_permissions(is_required=False)
        found = self._client("s3").list_objects_v2(Bucket=BUCKET)
        return [entry["Key"] for entry in found.get("Contents", ())]

    def storage(self, **options: Any) -> dict[str, Any]:
        """Return an entry of STORAGES with the credentials of the site."""
        return {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "access_key": self._key["AccessKeyId"],
                "secret_key": self._key["SecretAccessKey"],
                "bucket_name": BUCKET,
                "endpoint_url": f"http://{self.address}",
                "region_name": "us-east-1",
                **options,
            },
        }

    def _require_permissions(self, *, is_required: bool) -> None:
        self._request("POST", "/moto-api/reset-auth", b"0" if is_required else b"1000000")

    def _request(self, method: str, path: str, body: bytes = b"") -> urllib3.BaseHTTPResponse:
        try:
            with urllib3.PoolManager(retries=False) as pool:
                return pool.request(method, f"http://{self.address}{path}", body=body)
        except urllib3.exceptions.HTTPError as error:
            raise ConnectionError(str(error)) from error

    def _client(self, service: str) -> Any:
        import boto3  # noqa: PLC0415 - takes a second

        return boto3.client(
            service,
            endpoint_url=f"http://{self.address}",
            region_name="us-east-1",
            aws_access_key_id="administrator",
            aws_secret_access_key="secret",
        )
