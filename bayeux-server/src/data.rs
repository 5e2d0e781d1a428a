//! What applications may send as `data`.

use bayeux_proto::RawJson;
use serde::Serialize;

use crate::error::DataError;

/// Something to send as the `data` of a message: a reference to anything that serialises, or JSON as it is.
///
/// Source: CometD rule A-15: data is serialised when it is sent; later changes to the value are not.
pub trait IntoData {
    /// The data as JSON.
    ///
    /// # Errors
    /// [`DataError`] where the value does not serialise.
    fn into_data(self) -> Result<RawJson, DataError>;
}

impl IntoData for RawJson {
    fn into_data(self) -> Result<RawJson, DataError> {
        Ok(self)
    }
}

impl<T: Serialize + ?Sized> IntoData for &T {
    fn into_data(self) -> Result<RawJson, DataError> {
        Ok(RawJson::from_serialize(self)?)
    }
}
