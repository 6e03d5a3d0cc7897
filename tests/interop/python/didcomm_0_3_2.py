"""Drives the didcomm 0.3.2 library: one JSON request per line on stdin, one JSON answer per line on stdout."""

import asyncio
import json
import sys

from didcomm.common.algorithms import AnonCryptAlg
from didcomm.common.resolvers import ResolversConfig
from didcomm.common.types import VerificationMaterial, VerificationMaterialFormat, VerificationMethodType
from didcomm.did_doc.did_doc import DIDDoc
from didcomm.did_doc.did_resolver_in_memory import DIDResolverInMemory
from didcomm.message import FromPrior, Message
from didcomm.pack_encrypted import PackEncryptedConfig, pack_encrypted
from didcomm.pack_signed import pack_signed
from didcomm.secrets.secrets_resolver import Secret
from didcomm.secrets.secrets_resolver_in_memory import SecretsResolverInMemory
from didcomm.unpack import unpack

ENCRYPTIONS = {algorithm.value.enc: algorithm for algorithm in AnonCryptAlg}


def document_of(document):
    """The library reads endpoints only in the shape older than DIDComm v2, members beside a bare URI."""
    document = dict(document)
    document["service"] = [
        {
            "id": service["id"],
            "type": service["type"],
            "serviceEndpoint": service["serviceEndpoint"]["uri"],
            "accept": service["serviceEndpoint"]["accept"],
            "routingKeys": service["serviceEndpoint"]["routingKeys"],
            "recipientKeys": [],
        }
        for service in document["service"]
    ]
    return DIDDoc.deserialize(document)


def load(documents, secrets):
    """Everything the library asks for: documents by DID and secrets by key id."""
    held = [
        Secret(
            kid=secret["kid"],
            type=VerificationMethodType.JSON_WEB_KEY_2020,
            verification_material=VerificationMaterial(
                format=VerificationMaterialFormat.JWK, value=json.dumps(secret["jwk"])
            ),
        )
        for secret in secrets
    ]
    resolver = DIDResolverInMemory([document_of(document) for document in documents])
    return ResolversConfig(secrets_resolver=SecretsResolverInMemory(held), did_resolver=resolver)


def to_message(headers):
    """The library's message; a rotation is given as its claims and signed on packing."""
    headers = dict(headers)
    claims = headers.pop("from_prior", None)
    message = Message.from_dict(headers)
    if claims:
        message.from_prior = FromPrior(**claims)
    return message


async def pack(known, request):
    result = await pack_encrypted(
        known,
        to_message(request["message"]),
        to=request["to"],
        frm=request["from"],
        sign_frm=request["signer"],
        pack_config=PackEncryptedConfig(
            enc_alg_anon=ENCRYPTIONS[request["enc"]],
            protect_sender_id=request["hide_sender"],
            forward=request["forward"],
        ),
    )
    return {"packed": result.packed_msg}


async def sign(known, request):
    result = await pack_signed(known, to_message(request["message"]), sign_frm=request["kid"])
    return {"packed": result.packed_msg}


async def opened(known, request):
    result = await unpack(known, request["packed"])
    message = result.message.as_dict()
    return {
        "message": message,
        "sender": result.metadata.encrypted_from,
        "signer": result.metadata.sign_from,
        "rotation_key": result.metadata.from_prior_issuer_kid,
    }


OPERATIONS = {"pack": pack, "sign": sign, "unpack": opened}


async def serve():
    known = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["op"] == "load":
                known = load(request["documents"], request["secrets"])
                answer = {}
            else:
                answer = await OPERATIONS[request["op"]](known, request)
        except Exception as error:  # the test decides what a refusal means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
