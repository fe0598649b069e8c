//! The reference cluster of fourteen nodes, as it is shipped.

use crate::model::{Source, Sources};
use std::collections::BTreeMap;

macro_rules! units {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../units/", $name, ".toml")))),*]
    };
}

/// Its texts. A test of the model holds that they are valid.
pub fn sample() -> Sources {
    let units = units![
        "activemq",
        "fdfs-storage",
        "fdfs-tracker",
        "keepalived",
        "mysql",
        "nginx",
        "office",
        "redis",
    ];
    let units = units.map(|(name, text)| (name.to_owned(), text.to_owned()));
    sources(include_str!("../../cluster.toml").to_owned(), units.into_iter().collect())
}

/// Texts that lie in no folder: a cluster file, and units by name.
pub(super) fn sources(cluster: String, units: BTreeMap<String, String>) -> Sources {
    let unit = |(name, text): (String, String)| {
        let path = format!("units/{name}.toml");
        (name, Source { path, text })
    };
    Sources {
        cluster: Source { path: "cluster.toml".to_owned(), text: cluster },
        folder: "units".to_owned(),
        units: units.into_iter().map(unit).collect(),
        unread: BTreeMap::new(),
    }
}
