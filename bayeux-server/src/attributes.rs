//! Attributes: what the application keeps with a server, a session or a channel (rule A-66).

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Values by name, of any type.
#[derive(Default)]
pub(crate) struct Attributes(RwLock<HashMap<String, Value>>);

type Value = Arc<dyn Any + Send + Sync>;

impl Attributes {
    pub(crate) fn get<T: Send + Sync + 'static>(&self, name: &str) -> Option<Arc<T>> {
        let value = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        value?.downcast().ok()
    }

    pub(crate) fn set<T: Send + Sync + 'static>(&self, name: &str, value: T) {
        let old = self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::new(value));
        // Dropped without the lock: its destructor is the application's.
        drop(old);
    }

    pub(crate) fn remove(&self, name: &str) -> bool {
        let old = self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        old.is_some()
    }

    /// In alphabetical order.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        names.sort_unstable();
        names
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_names_and_types() {
        let attributes = Attributes::default();
        attributes.set("user", "alice".to_owned());
        attributes.set("age", 7_u32);
        assert_eq!(attributes.get::<String>("user").as_deref().map(String::as_str), Some("alice"));
        assert!(attributes.get::<String>("age").is_none(), "another type");
        attributes.set("age", "seven");
        assert_eq!(attributes.get::<&str>("age").as_deref(), Some(&"seven"));
        assert_eq!(attributes.names(), ["age", "user"]);
        assert!(attributes.remove("age") && !attributes.remove("age"));
    }
}
