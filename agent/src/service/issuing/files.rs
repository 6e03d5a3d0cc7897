//! What the city issues by: its description, register and templates, as they were last read.

use std::sync::{Arc, PoisonError};

use einmal_register::{Person, PersonId, Template};
use serde_json::{Value, json};

use super::{
    super::{
        ids::TemplateId,
        no_card::{NoCard, NotMade},
        templates::CityFiles,
    },
    IssueJob, IssuingService,
};
use crate::handler::Failure;

impl IssuingService {
    /// Description, register and templates as they were last read.
    pub(crate) fn files(&self) -> Arc<CityFiles> {
        Arc::clone(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Continues with the files as they are now.
    pub(crate) fn replace_files(&self, files: CityFiles) {
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(files);
    }

    pub(crate) fn template(&self, id: &TemplateId) -> Result<Template, Failure> {
        let files = self.files();
        files.templates.get(id).cloned().ok_or_else(|| {
            let known: Vec<&str> = files.templates.keys().map(TemplateId::as_str).collect();
            Failure::user(format!("no credential template `{id}`; there are: {}", known.join(", ")))
        })
    }

    /// The template of an exchange, which may be older than the present files.
    pub(super) fn present_template(&self, job: &IssueJob) -> Result<Template, NotMade> {
        Ok(self.template(&job.order.template).map_err(|_| NoCard::TemplateGone)?)
    }

    /// Checks that a person is in the register.
    pub(crate) fn known_person(&self, id: &PersonId) -> Result<(), Failure> {
        in_register(&self.files(), id).map(|_| ())
    }

    /// How the register was read: counts, and each skipped row with line, column and reason.
    pub(crate) fn register_report(&self) -> Value {
        let files = self.files();
        let report = &files.register.report;
        let skipped: Vec<Value> = report
            .bad_rows
            .iter()
            .map(|row| {
                json!({
                    "line": row.line,
                    "column": row.column.as_ref().map(|column| column.name.clone()),
                    "reason": row.reason.to_string(),
                })
            })
            .collect();
        json!({
            "rows": report.rows,
            "people": files.register.people.len(),
            "skipped_rows": report.bad_row_count,
            "skipped": skipped,
            "ignored_columns": report.ignored_columns,
        })
    }
}

/// A person of the register.
pub(super) fn in_register<'f>(files: &'f CityFiles, id: &PersonId) -> Result<&'f Person, Failure> {
    files.register.people.get(id).ok_or_else(|| {
        Failure::user("no such person in the register; see the skipped rows with: einmal city register")
    })
}
