//! A client that talks to a mediator's process by HTTP, waits for each answer, and sees its status and headers.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use einmal_did::Did;
use einmal_didcomm::{Attachment, ENCRYPTED_MEDIA_TYPE, Message, ReturnRoute, SenderProtection};
use serde_json::{Value, json};

use crate::{Running, Stranger};

/// Longest time for an answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const MEDIATION: &str = "https://didcomm.org/coordinate-mediation/3.0";
const PICKUP: &str = "https://didcomm.org/messagepickup/3.0";

/// An HTTP answer.
#[derive(Debug)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Its headers in lower case.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answered {
    /// Whether it says "not now", and when to try again.
    pub fn is_come_again(&self) -> bool {
        matches!(self.status, 429 | 503) && self.head.contains("retry-after: ")
    }
}

/// A mediator as its clients see it.
#[derive(Clone, Debug)]
pub struct Courier {
    address: String,
    mediator: Did,
}

impl Courier {
    /// A client of a running mediator.
    pub fn to(mediator: &Running) -> Self {
        Self {
            address: mediator.said("listen").to_owned(),
            mediator: Did::parse(mediator.said("did")).unwrap(),
        }
    }

    /// Sends a request unchanged, on its own connection.
    pub fn exchange(&self, request: &[u8]) -> Answered {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answered { status, head, body: bytes[end + 4..].to_vec() }
    }

    /// Whether anyone listens there.
    pub fn is_heard(&self) -> bool {
        TcpStream::connect(&self.address).is_ok()
    }

    /// Gets a path.
    pub fn get(&self, path: &str) -> Answered {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        self.exchange(request.as_bytes())
    }

    /// Posts an envelope.
    pub fn post(&self, envelope: &[u8]) -> Answered {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {ENCRYPTED_MEDIA_TYPE}\r\nContent-Length: {}\r\n\r\n",
            envelope.len()
        );
        self.exchange(&[head.as_bytes(), envelope].concat())
    }

    /// Sends a request as `who`, asking for an answer on the same connection.
    pub fn ask(&self, who: &Stranger, kind: &str, body: Value) -> Answered {
        let mut message = who.message(kind, &self.mediator, body);
        message.return_route = Some(ReturnRoute::All);
        self.post(&who.pack(&message, SenderProtection::Authcrypt))
    }

    /// Like [`Courier::ask`], but the answer must come.
    #[track_caller]
    fn answer(&self, who: &Stranger, kind: &str, body: Value) -> Message {
        let answered = self.ask(who, kind, body);
        assert_eq!(answered.status, 200, "{kind}: {answered:?}");
        who.open(&answered.body).message
    }

    /// Asks for an account.
    pub fn request_account(&self, who: &Stranger) -> Answered {
        self.ask(who, &format!("{MEDIATION}/mediate-request"), json!({}))
    }

    /// Opens an account for `who` and registers DIDs for it.
    #[track_caller]
    pub fn enrol(&self, who: &Stranger, dids: &[&Did]) {
        assert_eq!(self.request_account(who).status, 200);
        let updates: Vec<Value> =
            dids.iter().map(|did| json!({"recipient_did": did.as_str(), "action": "add"})).collect();
        let kind = format!("{MEDIATION}/recipient-update");
        let answer = self.answer(who, &kind, json!({"updates": updates}));
        assert_eq!(answer.body["updated"][0]["result"], "success");
    }

    /// Sends a forward for `next` with the text `text`.
    pub fn forward(&self, from: &Stranger, next: &Did, text: &str) -> Answered {
        let mut forward = from.forward(&self.mediator, next, json!({"ciphertext": text}));
        forward.from = None;
        self.post(&from.pack(&forward, SenderProtection::Anoncrypt))
    }

    /// The letters waiting for `who`, at most 50: ids and texts, in order.
    #[track_caller]
    pub fn letters(&self, who: &Stranger) -> Vec<(String, String)> {
        let kind = format!("{PICKUP}/delivery-request");
        let delivery = self.answer(who, &kind, json!({"limit": 50}));
        let letter = |attachment: &Attachment| {
            let text = attachment.to_json().unwrap()["ciphertext"].as_str().unwrap().to_owned();
            (attachment.id.clone().unwrap(), text)
        };
        delivery.attachments.iter().map(letter).collect()
    }

    /// The texts of the letters waiting for `who`, at most 50.
    #[track_caller]
    pub fn texts(&self, who: &Stranger) -> Vec<String> {
        self.letters(who).into_iter().map(|(_, text)| text).collect()
    }

    /// Acknowledges letters by their ids.
    pub fn acknowledge(&self, who: &Stranger, ids: &[String]) -> Answered {
        self.ask(who, &format!("{PICKUP}/messages-received"), json!({"message_id_list": ids}))
    }
}
