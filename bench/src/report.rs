//! The report: results, machine and settings; and its JSON form.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;

use crate::{machine::Machine, outcome::Outcome};

pub(crate) struct Report {
    pub(crate) date: OffsetDateTime,
    pub(crate) machine: Machine,
    pub(crate) commit: String,
    pub(crate) settings: Settings,
    pub(crate) outcomes: Vec<Outcome>,
}

#[derive(Serialize)]
pub(crate) struct Settings {
    pub(crate) seconds_per_round: u32,
    pub(crate) rounds: u32,
    pub(crate) connections: u32,
    pub(crate) api_options: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) textbook_pool: Option<u32>,
    pub(crate) postgres: String,
}

impl Report {
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        #[derive(Serialize)]
        struct Json<'a> {
            ratios: BTreeMap<&'a str, f64>,
            cases: BTreeMap<&'a str, &'a Outcome>,
            #[serde(with = "time::serde::rfc3339")]
            date: OffsetDateTime,
            machine: &'a Machine,
            commit: &'a str,
            settings: &'a Settings,
        }
        let ratios = self.outcomes.iter();
        let json = Json {
            ratios: ratios
                .map(|outcome| (outcome.case.name, outcome.ratio.median))
                .collect(),
            cases: self
                .outcomes
                .iter()
                .map(|outcome| (outcome.case.name, outcome))
                .collect(),
            date: self.date,
            machine: &self.machine,
            commit: &self.commit,
            settings: &self.settings,
        };
        Ok(serde_json::to_string_pretty(&json)? + "\n")
    }

    pub(crate) fn day(&self) -> String {
        self.date.date().to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::{cases, sample::sample};

    #[test]
    fn the_json_has_ratios_and_cases_by_name() {
        let json = sample(&[0.94]).json().expect("it serialises");
        let json: Value = serde_json::from_str(&json).expect("it is JSON");
        assert_eq!(json["ratios"]["hot_reserve/noop"], 0.47);
        assert_eq!(
            json["ratios"].as_object().map(|ratios| ratios.len()),
            Some(cases::all().count())
        );
        let case = &json["cases"]["hot_reserve/noop"];
        assert_eq!((&case["floor"], &case["goal"]), (&0.42.into(), &0.5.into()));
        assert_eq!(case["verdict"], "met_floor");
        assert_eq!(case["ours"]["label"], "hot_reserve");
        assert_eq!(case["ours"]["rounds"][0]["answers"]["201"], 80_000);
        assert_eq!(json["date"], "1970-01-01T00:00:00Z");
        assert_eq!(json["commit"], "abc1234");
        assert_eq!(json["machine"]["cores"], 2);
    }
}
