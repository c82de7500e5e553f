//! The check of Redis for `check --live`.

use super::about::{self, Expected};
use super::script::Numbers;
use super::server::{Server, Trouble};
use super::{RedisSettings, RedisStartError};
use crate::net::Authority;

/// Describes each server in the settings, or says why it cannot be used. Writes nothing to Redis.
///
/// # Errors
/// If the file of its authorities cannot be read.
pub(crate) async fn examine(
    settings: &RedisSettings,
) -> Result<Vec<(Authority, Result<String, Trouble>)>, RedisStartError> {
    let ca = settings.authorities()?;
    let mut answers = Vec::new();
    for address in &settings.servers {
        answers.push((address.clone(), examine_one(address, settings, ca.as_deref()).await));
    }
    Ok(answers)
}

async fn examine_one(address: &Authority, settings: &RedisSettings, ca: Option<&[u8]>) -> Result<String, Trouble> {
    let server = Server::new(address.clone(), settings, ca)?;
    let mut connection = server.connection(settings.timeout).await?;
    let expected = if settings.cluster { Expected::Seed } else { Expected::Alone };
    let number =
        Numbers::new().map_err(|error| Trouble::OutOfReach(RedisStartError::NoRandomness(error).to_string()))?.next();
    let about = about::ask(&mut connection, address, expected, number, settings.timeout).await?;
    Ok(about.to_string())
}
