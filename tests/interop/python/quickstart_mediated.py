"""Plays the quickstart of didcomm-messaging 0.1.1 against a running mediator: mediation, registration, pickup, attacks.

Alice asks the mediator for mediation and registers a second DID. Bob writes to that DID through the mediator, and Alice
fetches by HTTP. Mallory tries to get, to delete and to divert Alice's mail. With `--websocket` a last message comes in
live mode. Prints one line of JSON: `{"ok": true, "steps": [...], ...}` with exit status 0, or
`{"ok": false, "failed": STEP, "error": ...}` with 1.
"""

import argparse
import asyncio
import base64
import json
import sys
import uuid
from urllib.parse import parse_qs, urlparse

import aiohttp
from didcomm_messaging.multiformats import multibase, multicodec
from didcomm_messaging.quickstart import (
    activate_websocket,
    fetch_relayed_messages,
    generate_did,
    send_http_message,
    setup_default,
    setup_relay,
)
from did_peer_2 import KeySpec, generate

BASIC_MESSAGE = "https://didcomm.org/basicmessage/2.0/message"
MEDIATION = "https://didcomm.org/coordinate-mediation/3.0/"
PICKUP = "https://didcomm.org/messagepickup/3.0/"
PROBLEM = "https://didcomm.org/report-problem/2.0/problem-report"
NOT_ENROLLED = "e.p.req.not_enroll"


def mediator_did(text):
    """The mediator's DID: given as it is, or as `from` of an out-of-band invitation URL."""
    if text.startswith("did:"):
        return text
    encoded = parse_qs(urlparse(text).query)["_oob"][0]
    invitation = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    return invitation["from"]


def did_behind(mediator, keys):
    """A DID with these keys and the mediator as its endpoint, as `setup_relay` makes one, but registered nowhere."""
    verkey, xkey = keys

    def multikey(codec, key):
        return multibase.encode(multicodec.wrap(codec, key.get_public_bytes()), "base58btc")

    return generate(
        [
            KeySpec.verification(multikey("ed25519-pub", verkey)),
            KeySpec.key_agreement(multikey("x25519-pub", xkey)),
        ],
        [{"type": "DIDCommMessaging", "serviceEndpoint": {"uri": mediator, "accept": ["didcomm/v2"]}}],
    )


def require(holds, what):
    if not holds:
        raise ValueError(what)


class Interrupted(Exception):
    """Alice's wallet stops before it acknowledges what it was handed."""


class Wallet:
    """A DID and the library set up for it."""

    def __init__(self, mediator):
        self.mediator = mediator
        self.relayed = None
        self.received = []

    async def open(self):
        self.did, self.keys = generate_did()
        self.library = await setup_default(self.did, self.keys)
        return self

    async def enroll(self):
        """Mediation, and a second DID of the same keys that is reached through the mediator."""
        self.relayed = await setup_relay(self.library, self.did, self.mediator, *self.keys)
        require(self.relayed is not None, "the mediator denied mediation")

    async def ask(self, kind, **body):
        """One message to the mediator that the quickstart has no function for, and the answer to it."""
        message = {"type": kind, "id": str(uuid.uuid4()), "body": body, "from": self.did, "to": [self.mediator]}
        answer = await send_http_message(self.library, self.did, message, target=self.mediator)
        require(answer is not None, f"no answer to {kind}")
        # A problem report opens a thread of its own beneath the one it is about.
        thread = answer["pthid" if answer["type"] == PROBLEM else "thid"]
        require(thread == message["id"], f"the answer to {kind} is of another thread")
        require(answer["from"] == self.mediator, "the answer comes from somebody else")
        return answer

    async def update(self, did, action):
        """Asks for one change of registration and returns what became of it."""
        answer = await self.ask(MEDIATION + "recipient-update", updates=[{"recipient_did": did, "action": action}])
        require(answer["type"] == MEDIATION + "recipient-update-response", f"update answered by {answer['type']}")
        [updated] = answer["body"]["updated"]
        return updated["result"]

    async def ask_in_vain(self, kind, **body):
        answer = await self.ask(kind, **body)
        code = answer["body"].get("code")
        require((answer["type"], code) == (PROBLEM, NOT_ENROLLED), f"{kind} answered by {answer['type']} {code}")

    async def keep(self, message):
        """Takes what the library hands over."""
        self.received.append(message)

    async def fetch(self, callback=None):
        """Fetches and acknowledges all mail; returns the contents."""
        self.received.clear()
        await fetch_relayed_messages(self.library, self.did, self.mediator, callback or self.keep)
        return [message["body"]["content"] for message in self.received]

    def letter(self, did, content):
        body = {"content": content}
        return {"type": BASIC_MESSAGE, "id": str(uuid.uuid4()), "body": body, "from": self.did, "to": [did]}

    async def write(self, did, content):
        """A text message by way of whatever endpoint the DID names."""
        await send_http_message(self.library, self.did, self.letter(did, content), target=did)

    async def write_in_vain(self, did):
        try:
            await self.write(did, "nobody will read this")
        except Exception as error:  # the library has no type of its own for a refusal
            require("code=400" in str(error), f"refused in another way: {error}")
        else:
            raise ValueError("mail for a DID nobody registered was taken")


async def post(endpoint, envelope):
    """The HTTP status a raw envelope gets."""
    async with aiohttp.ClientSession() as session, session.post(endpoint, data=envelope) as response:
        return response.status


def damaged(envelope):
    """The same envelope with one bit of its ciphertext changed."""
    envelope = json.loads(envelope)
    first = envelope["ciphertext"][0]
    envelope["ciphertext"] = ("B" if first == "A" else "A") + envelope["ciphertext"][1:]
    return json.dumps(envelope).encode()


class Play:
    """The parties, and how far the play has come."""

    def __init__(self, mediator, timeout):
        self.mediator = mediator
        self.timeout = timeout
        self.steps = []
        self.step = "start"

    async def do(self, step, action):
        """Runs one step within the time limit."""
        self.step = step
        await asyncio.wait_for(action, self.timeout)
        self.steps.append(step)

    async def run(self, websocket):
        self.alice, self.bob, self.mallory = [await Wallet(self.mediator).open() for _ in range(3)]
        await self.do("mediate and register", self.alice.enroll())
        await self.do("send while Alice is away", self.send())
        await self.do("mail not acknowledged comes again", self.interrupt())
        await self.do("stranger gets nothing", self.stranger())
        await self.do("other account gets nothing", self.other_account())
        await self.do("pick up by HTTP", self.pick_up())
        await self.do("pick up nothing more", self.nothing_more())
        await self.do("damaged mail is refused, repeated mail kept once", self.damage_and_repeat())
        await self.do("mail for nobody is refused", self.unregistered())
        if websocket:
            await self.do("live mode", self.live())

    async def send(self):
        self.sent = ["by pickup", "Grüß Gott " * 2000]
        for content in self.sent:
            await self.bob.write(self.alice.relayed, content)

    async def interrupt(self):
        async def stop(_):
            raise Interrupted

        for _ in range(2):
            try:
                await self.alice.fetch(stop)
            except Interrupted:
                continue
            raise ValueError("no mail was handed over")
        # Kept for Mallory, who shall know even the ids.
        delivery = await self.alice.ask(PICKUP + "delivery-request", limit=10)
        self.ids = [attachment["id"] for attachment in delivery["attachments"]]
        require(len(self.ids) == len(self.sent), f"{len(self.ids)} messages wait")

    async def stranger(self):
        """Without an account, whatever is asked."""
        theirs = str(self.alice.relayed)
        for scope in [{}, {"recipient_did": theirs}, {"recipient_did": str(self.alice.did)}]:
            await self.mallory.ask_in_vain(PICKUP + "status-request", **scope)
            await self.mallory.ask_in_vain(PICKUP + "delivery-request", limit=10, **scope)
        await self.mallory.ask_in_vain(PICKUP + "messages-received", message_id_list=self.ids)
        removal = {"recipient_did": theirs, "action": "remove"}
        await self.mallory.ask_in_vain(MEDIATION + "recipient-update", updates=[removal])

    async def other_account(self):
        """With an account of her own, which counts for her own mail only."""
        await self.mallory.enroll()
        theirs = str(self.alice.relayed)
        require(await self.mallory.fetch() == [], "Mallory got mail")
        for kind, more in [("status-request", {}), ("delivery-request", {"limit": 10})]:
            await self.mallory.ask_in_vain(PICKUP + kind, recipient_did=theirs, **more)
        answer = await self.mallory.ask(PICKUP + "messages-received", message_id_list=self.ids)
        require(answer["body"].get("message_count") == 0, "Mallory is told of others' mail")
        for action, refusal in [("add", "client_error"), ("remove", "no_change")]:
            result = await self.mallory.update(theirs, action)
            require(result == refusal, f"{action} of Alice's DID by Mallory: {result}")

    async def pick_up(self):
        contents = await self.alice.fetch()
        require(contents == self.sent, f"{len(contents)} messages, or others than sent")
        senders = {str(message["from"]) for message in self.alice.received}
        require(senders == {str(self.bob.did)}, "mail of another sender")

    async def nothing_more(self):
        require(await self.alice.fetch() == [], "an acknowledged message was delivered again")

    async def damage_and_repeat(self):
        letter = self.bob.letter(self.alice.relayed, "twice")
        packed = await self.bob.library.pack(message=letter, to=self.alice.relayed, frm=self.bob.did)
        endpoint = packed.get_endpoint("http")
        for envelope, status in [
            (damaged(packed.message), 400),
            (b"{}", 400),
            (packed.message, 200),
            (packed.message, 200),
        ]:
            got = await post(endpoint, envelope)
            require(got == status, f"status {got} where {status} was due")
        contents = await self.alice.fetch()
        require(contents == ["twice"], f"{len(contents)} messages of one envelope")

    async def unregistered(self):
        """A DID that never was registered, and one that no longer is."""
        _, keys = generate_did()
        await self.bob.write_in_vain(did_behind(self.mediator, keys))
        result = await self.alice.update(str(self.alice.relayed), "remove")
        require(result == "success", f"removal: {result}")
        await self.bob.write_in_vain(self.alice.relayed)
        result = await self.alice.update(str(self.alice.relayed), "add")
        require(result == "success", f"registering again: {result}")
        require(await self.alice.fetch() == [], "refused mail was kept")

    async def live(self):
        alice, pushed = self.alice, asyncio.Queue()
        task = await activate_websocket(alice.library, alice.did, alice.mediator, pushed.put, create_task=True)
        require(task is not None, "the mediator names no WebSocket endpoint")
        try:
            # The library tells nobody when live mode is on; a message sent too early would wait in the queue.
            await asyncio.sleep(1)
            if task.done():
                task.result()
            await self.bob.write(alice.relayed, "by push")
            message = await pushed.get()
            require(message["body"].get("content") == "by push", f"{message['type']} was pushed")
        finally:
            task.cancel()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mediator", help="DID of the mediator, or the URL of its out-of-band invitation")
    parser.add_argument("--websocket", action="store_true", help="play live mode too")
    parser.add_argument("--timeout", type=float, default=20, help="seconds each step may take")
    options = parser.parse_args()
    play = Play(mediator_did(options.mediator), options.timeout)
    try:
        asyncio.run(play.run(options.websocket))
    except Exception as error:  # reported to the caller, who decides
        failure = {"failed": play.step, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"ok": False, "steps": play.steps, **failure}))
        sys.exit(1)
    print(json.dumps({"ok": True, "steps": play.steps}))


if __name__ == "__main__":
    main()
