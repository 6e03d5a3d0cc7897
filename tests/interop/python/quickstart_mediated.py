"""Plays the quickstart of didcomm-messaging 0.1.1 against a running mediator: mediation, registration, pickup.

Alice asks the mediator for mediation and registers a second DID. Bob writes to that DID through the mediator. Alice
fetches his message by HTTP, then a second one comes by WebSocket in live mode. Prints one line of JSON:
`{"ok": true, "steps": [...], ...}` with exit status 0, or `{"ok": false, "failed": STEP, "error": ...}` with 1.
"""

import argparse
import asyncio
import base64
import json
import sys
import uuid
from urllib.parse import parse_qs, urlparse

from didcomm_messaging.quickstart import (
    activate_websocket,
    fetch_relayed_messages,
    generate_did,
    send_http_message,
    setup_default,
    setup_relay,
)

BASIC_MESSAGE = "https://didcomm.org/basicmessage/2.0/message"


def mediator_did(text):
    """The mediator's DID: given as it is, or as `from` of an out-of-band invitation URL."""
    if text.startswith("did:"):
        return text
    encoded = parse_qs(urlparse(text).query)["_oob"][0]
    invitation = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    return invitation["from"]


class Play:
    """The parties, and how far the play has come."""

    def __init__(self, mediator, timeout):
        self.mediator = mediator
        self.timeout = timeout
        self.steps = []
        self.step = "start"
        self.received = asyncio.Queue()

    async def do(self, step, action):
        """Runs one step within the time limit."""
        self.step = step
        result = await asyncio.wait_for(action, self.timeout)
        self.steps.append(step)
        return result

    async def keep(self, message):
        """Takes what the library hands over; answers and status messages of the mediator are not for Alice."""
        if message["type"] == BASIC_MESSAGE:
            await self.received.put(message)

    async def write_to_alice(self, content):
        """Bob's message goes through the mediator, since Alice's second DID names it as endpoint."""
        message = {
            "type": BASIC_MESSAGE,
            "id": str(uuid.uuid4()),
            "body": {"content": content},
            "from": self.bob_did,
            "to": [self.alice_relayed],
        }
        await send_http_message(self.bob, self.bob_did, message, target=self.alice_relayed)

    async def expect(self, content):
        message = await self.received.get()
        if message["body"]["content"] != content or message["from"] != self.bob_did:
            raise ValueError(f"expected {content!r}, got {message['body']!r}")

    async def run(self, websocket):
        self.alice_did, alice_keys = generate_did()
        self.alice = await setup_default(self.alice_did, alice_keys)
        self.bob_did, bob_keys = generate_did()
        self.bob = await setup_default(self.bob_did, bob_keys)

        relay = setup_relay(self.alice, self.alice_did, self.mediator, *alice_keys)
        self.alice_relayed = await self.do("mediate and register", relay)
        if self.alice_relayed is None:
            raise ValueError("the mediator denied mediation")

        await self.do("send while Alice is away", self.write_to_alice("by pickup"))
        fetch = fetch_relayed_messages(self.alice, self.alice_did, self.mediator, self.keep)
        await self.do("pick up by HTTP", fetch)
        await self.do("read what was picked up", self.expect("by pickup"))
        # Acknowledged, so nothing is left: the second fetch hands over no message.
        fetch = fetch_relayed_messages(self.alice, self.alice_did, self.mediator, self.keep)
        await self.do("pick up nothing more", fetch)
        if not self.received.empty():
            raise ValueError("an acknowledged message was delivered again")
        if websocket:
            await self.live()

    async def live(self):
        connect = activate_websocket(self.alice, self.alice_did, self.mediator, self.keep, create_task=True)
        task = await self.do("connect by WebSocket", connect)
        try:
            # The library tells nobody when live mode is on; a message sent too early would wait in the queue.
            await asyncio.sleep(1)
            if task.done():
                task.result()
            await self.do("send while Alice is live", self.write_to_alice("by push"))
            await self.do("read what was pushed", self.expect("by push"))
        finally:
            task.cancel()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mediator", help="DID of the mediator, or the URL of its out-of-band invitation")
    parser.add_argument("--no-websocket", action="store_true", help="leave live mode out")
    parser.add_argument("--timeout", type=float, default=20, help="seconds each step may take")
    options = parser.parse_args()
    play = Play(mediator_did(options.mediator), options.timeout)
    try:
        asyncio.run(play.run(not options.no_websocket))
    except Exception as error:  # reported to the caller, who decides
        failure = {"failed": play.step, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"ok": False, "steps": play.steps, **failure}))
        sys.exit(1)
    print(json.dumps({"ok": True, "steps": play.steps, "relayed_did": str(play.alice_relayed)}))


if __name__ == "__main__":
    main()
