//! The dataset in `examples/`: it says what the tables that it was made from say.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, OpenFlags};

fn lines(name: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn database() -> Connection {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/timezones.sqlite");
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

#[test]
fn every_country_of_the_table_is_in_the_database() {
    let database = database();
    let mut statement = database
        .prepare("SELECT code, name FROM country ORDER BY code")
        .unwrap();
    let rows = statement
        .query_map([], |row| Ok(vec![row.get(0)?, row.get(1)?]))
        .unwrap();
    assert_eq!(
        rows.collect::<Result<Vec<Vec<String>>, _>>().unwrap(),
        lines("iso3166.tab")
    );
}

#[test]
fn every_zone_has_its_countries() {
    let database = database();
    let mut statement = database
        .prepare(
            "SELECT zone.name, comment, country_code FROM zone JOIN zone_country ON zone_id = id
             ORDER BY id, is_principal DESC, country_code",
        )
        .unwrap();
    let mut zones: BTreeMap<String, (Option<String>, Vec<String>)> = BTreeMap::new();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let zone = zones
            .entry(row.get(0).unwrap())
            .or_insert((row.get(1).unwrap(), Vec::new()));
        zone.1.push(row.get(2).unwrap());
    }
    let expected: BTreeMap<_, _> = lines("zone1970.tab")
        .into_iter()
        .map(|line| {
            let mut countries: Vec<String> = line[0].split(',').map(str::to_owned).collect();
            // The first one has the principal location; the order of the others says nothing.
            countries[1..].sort();
            (line[2].clone(), (line.get(3).cloned(), countries))
        })
        .collect();
    assert_eq!(zones, expected);
}

#[test]
fn places_are_decimal_degrees() {
    let database = database();
    let mut statement = database
        .prepare("SELECT latitude, longitude FROM zone WHERE name = ?1")
        .unwrap();
    let mut place = |name: &str| {
        statement
            .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
    };
    // +4723+00832, -3436-05827, +404251-0740023 (ISO 6709).
    assert_eq!(place("Europe/Zurich"), (47.383_333, 8.533_333));
    assert_eq!(place("America/Argentina/Buenos_Aires"), (-34.6, -58.45));
    assert_eq!(place("America/New_York"), (40.714_167, -74.006_389));
}
