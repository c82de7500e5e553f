//! The check of Redis for `check --live`.

use super::about::{self, Expected};
use super::rights;
use super::script::{Keys, Number, Numbers};
use super::sentinels::{Report, Sentinels, elected};
use super::server::{Server, Trouble};
use super::settings::TlsFiles;
use super::{RedisSettings, RedisStartError};
use crate::net::Authority;

/// Describes each server in the settings, or says why it cannot be used. Leaves nothing in Redis.
///
/// # Errors
/// If the file of its authorities cannot be read.
pub(crate) async fn examine(
    settings: &RedisSettings,
) -> Result<Vec<(Authority, Result<String, Trouble>)>, RedisStartError> {
    let tls = settings.tls_files()?;
    let number = Numbers::new().map_err(RedisStartError::NoRandomness)?.next();
    let mut answers = Vec::new();
    let mut servers = settings.servers.clone();
    if let Some(sentinels) = &settings.sentinel {
        let reports = Sentinels::new(sentinels, &tls)?.reports(number).await;
        servers.extend(elected(&reports).ok().map(|(master, _)| master));
        let told = |(node, report): (_, Result<Report, _>)| (node, report.map(|report| report.to_string()));
        answers.extend(reports.into_iter().map(told));
    }
    for address in servers {
        let answer = examine_one(&address, settings, &tls, number).await;
        answers.push((address, answer));
    }
    Ok(answers)
}

async fn examine_one(
    address: &Authority,
    settings: &RedisSettings,
    tls: &TlsFiles,
    number: Number,
) -> Result<String, Trouble> {
    let server = Server::new(address.clone(), &settings.access, tls)?;
    let mut connection = server.connection(settings.timeout).await?;
    let expected = if settings.cluster { Expected::Seed } else { Expected::of(settings) };
    let about = about::ask(&mut connection, address, expected, number, settings.timeout).await?;
    if settings.fleet_shares {
        rights::try_counting(&mut connection, &Keys::new(&settings.prefix, false), settings.timeout).await?;
    }
    Ok(about.to_string())
}
