//! Type URIs of message bodies: those of one protocol and version begin alike.

/// Gives bodies their type URIs: what all begin with, then each body and the name of its message.
macro_rules! bodies {
    ($family:literal: $($name:ident = $message:literal),+ $(,)?) => {
        $(impl einmal_didcomm::Body for $name {
            const TYPE: &'static str = concat!($family, $message);
        })+
    };
}
