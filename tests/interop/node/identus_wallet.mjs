// Plays wallets made of the Identus SDK 7.0.0 against a running mediator: accounts, mail while its reader is away, mail
// for nobody, live mode.
//
// Usage: node identus_wallet.mjs PACKAGES DID
//   PACKAGES  the package.json whose packages are installed beside it
//   DID       the mediator's
//
// Prints one line of JSON: {"ok": true, "steps": [...]} with exit status 0, or {"ok": false, "failed": STEP, "error": ...}
// with 1.

import { createRequire } from "node:module";
import { resolve } from "node:path";

const [packages, mediatorDID] = process.argv.slice(2);
const require = createRequire(resolve(packages));
// Only later versions of Node bring it along.
globalThis.WebSocket ??= require("ws").WebSocket;
const SDK = require("@hyperledger/identus-sdk");
const { BasicMessage } = require("@hyperledger/identus-sdk/plugins/didcomm");

/** How long something may take that must happen, and how long is waited for what must not, in milliseconds. */
const PATIENCE = 20_000;
const QUIET = 1_500;
/** How often a wallet asks for mail. */
const POLL = 100;

/** The SDK's store, in memory. */
class MemoryStore {
  #tables = new Map();

  #rows(table) {
    if (!this.#tables.has(table)) this.#tables.set(table, new Map());
    return this.#tables.get(table);
  }

  async query(table, query) {
    const rows = [...this.#rows(table).values()];
    return rows.filter((row) => matches(row, query?.selector)).map((row) => ({ ...row }));
  }

  async insert(table, model) {
    this.#rows(table).set(model.uuid, { ...model });
  }

  async update(table, model) {
    await this.insert(table, model);
  }

  async delete(table, uuid) {
    this.#rows(table).delete(uuid);
  }
}

function matches(row, selector = {}) {
  return Object.entries(selector).every(([name, wanted]) => {
    if (name === "$or") return wanted.length === 0 || wanted.some((one) => matches(row, one));
    if (name === "$and") return wanted.every((one) => matches(row, one));
    return Array.isArray(wanted?.$in) ? wanted.$in.includes(row[name]) : row[name] === wanted;
  });
}

/** A wallet with an account at the mediator, and what it got. */
class Wallet {
  static async open({ liveMode }) {
    const wallet = new Wallet();
    const apollo = new SDK.Apollo();
    const pluto = new SDK.Pluto(new MemoryStore(), apollo);
    const options = { experiments: { liveMode } };
    wallet.agent = SDK.Agent.initialize({ mediatorDID, pluto, apollo, options });
    wallet.mail = [];
    wallet.agent.addListener("message", (messages) => wallet.mail.push(...messages));
    await wallet.agent.start();
    const { mediator } = wallet.agent.connections;
    if (liveMode) {
      // What came before the mediator has said yes waits to be asked for.
      const receive = mediator.receive.bind(mediator);
      let isLive = false;
      mediator.receive = (message, context) => {
        isLive ||= message?.body.live_delivery === true;
        return receive(message, context);
      };
      await until(() => isLive);
    } else {
      // It would ask every five seconds from now on.
      wallet.agent.stopFetchingMessages();
    }
    if (!mediator.routingDID) throw new Error("mediation was not granted");
    return wallet;
  }

  /** A DID that the mediator is told to keep mail for. */
  async address() {
    return this.agent.createNewPeerDID([], true);
  }

  async write(content, from, to) {
    return this.agent.sendMessage(new BasicMessage({ content }, from, to).makeMessage());
  }

  /** What was written to it, in order. */
  texts() {
    return this.mail.map((message) => message.body.content);
  }
}

async function until(condition) {
  const end = Date.now() + PATIENCE;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited in vain for: ${condition}`);
    await pause(20);
  }
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function same(found, wanted) {
  const [one, other] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (one !== other) throw new Error(`${one} instead of ${other}`);
}

const steps = [];
let current = "start";

async function step(name, act) {
  current = name;
  const result = await act();
  steps.push(name);
  return result;
}

async function play() {
  const [alice, bob] = await step("two wallets get accounts", () =>
    Promise.all([Wallet.open({ liveMode: false }), Wallet.open({ liveMode: false })]));
  const [hers, his] = await step("and have mail kept for an address each", () =>
    Promise.all([alice.address(), bob.address()]));
  await step("mail is sent while its reader does not ask for any", async () => {
    await bob.write("Grüße", his, hers);
    await bob.write("und noch eins", his, hers);
    same(alice.texts(), []);
  });
  await step("it is fetched in order, once", async () => {
    await alice.agent.startFetchingMessages(POLL);
    await until(() => alice.mail.length >= 2);
    await pause(QUIET);
    same(alice.texts(), ["Grüße", "und noch eins"]);
    same(alice.mail.map((message) => message.from.toString()), [his.toString(), his.toString()]);
    alice.agent.stopFetchingMessages();
  });
  await step("mail for an address nobody registered is refused with a report", async () => {
    const [service] = (await bob.agent.castor.resolveDID(hers.toString())).services;
    const stranger = await alice.agent.createNewPeerDID([service], false);
    await bob.write("to nobody", his, stranger);
    await bob.agent.startFetchingMessages(POLL);
    await until(() => bob.mail.length >= 1);
    same(bob.mail.map((message) => [message.piuri, message.body.code]), [
      ["https://didcomm.org/report-problem/2.0/problem-report", "e.p.req.not_enroll"],
    ]);
  });
  await step("in live mode mail comes without being asked for, once", async () => {
    const carol = await Wallet.open({ liveMode: true });
    const address = await carol.address();
    await bob.write("live", his, address);
    await until(() => carol.mail.length >= 1);
    await pause(QUIET);
    same(carol.texts(), ["live"]);
    await carol.agent.stop();
  });
  await Promise.all([alice.agent.stop(), bob.agent.stop()]);
}

let said = { ok: true, steps };
try {
  await play();
} catch (error) {
  said = { ok: false, failed: current, error: String(error?.message ?? error), steps };
}
console.log(JSON.stringify(said));
process.exit(said.ok ? 0 : 1);
