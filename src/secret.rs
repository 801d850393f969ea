//! A value that must not be seen: no `Debug` shows it, and its memory is wiped when it is dropped. Owns nothing of where
//! it comes from and where it goes.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The bytes of a secret. They are serialized for one purpose: the memory file that carries a run to its supervisor.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// The bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<SecretValue> for Vec<u8> {
    fn from(value: SecretValue) -> Self {
        value.0.to_vec()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_travels_and_is_not_shown() {
        let value = SecretValue::from(b"hunter2\xff".to_vec());
        assert_eq!(format!("{value:?}"), "[secret]");
        let text = serde_json::to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<SecretValue>(&text).unwrap(), value);
    }
}
