"""Drives didcomm-messaging 0.1.1 over did:peer:2: one JSON request per line on stdin, one answer per line on stdout."""

import asyncio
import json
import sys

from aries_askar import Key
from didcomm_messaging.crypto.backend.askar import AskarCryptoService, AskarSecretKey
from didcomm_messaging.crypto.backend.basic import InMemorySecretsManager
from didcomm_messaging.packaging import PackagingService
from didcomm_messaging.resolver import PrefixResolver
from didcomm_messaging.resolver.peer import Peer2, Peer4


async def serve():
    crypto, packaging, secrets = AskarCryptoService(), PackagingService(), InMemorySecretsManager()
    resolver = PrefixResolver({"did:peer:2": Peer2(), "did:peer:4": Peer4()})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["op"] == "load":
                for secret in request["secrets"]:
                    key = Key.from_jwk(json.dumps(secret["jwk"]))
                    await secrets.add_secret(AskarSecretKey(key, secret["kid"]))
                answer = {}
            elif request["op"] == "pack":
                message = json.dumps(request["message"]).encode()
                packed = await packaging.pack(
                    crypto, resolver, secrets, message, [request["to"]], request["from"]
                )
                answer = {"packed": packed.decode()}
            else:
                plaintext, metadata = await packaging.unpack(crypto, resolver, secrets, request["packed"])
                answer = {"message": json.loads(plaintext), "sender": metadata.sender_kid}
        except Exception as error:  # the test decides what a refusal means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
