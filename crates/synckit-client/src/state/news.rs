//! The news of a stream for all subscriptions of one client, and the tasks that bring them.
//!
//! One task for each runtime: a task makes progress only while the runtime that started it is driven.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use synckit_protocol::Cursor;

use crate::runtime::{RuntimeId, Task, watch};

/// What the server claims.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// The newest position. Unverified, and never a cursor of the app.
    pub(crate) newest: Option<Cursor>,
    /// Whether no more news can come: the session has ended.
    pub(crate) is_over: bool,
}

/// A task that brings news, shared by the subscriptions of one runtime. It ends with the last of them.
#[derive(Debug)]
pub(crate) struct NewsTask {
    news: watch::Receiver<News>,
    _task: Task<()>,
}

impl NewsTask {
    pub(crate) fn new(news: watch::Receiver<News>, task: Task<()>) -> Self {
        Self { news, _task: task }
    }

    /// A receiver to which everything that came so far is new.
    pub(crate) fn news(&self) -> watch::Receiver<News> {
        self.news.clone()
    }

    /// Whether the task has ended.
    fn has_ended(&self) -> bool {
        self.news.has_changed().is_err()
    }
}

/// The tasks of one stream. At most one lives for each runtime.
#[derive(Debug, Default)]
pub(crate) struct NewsTasks(Mutex<Vec<(RuntimeId, Weak<NewsTask>)>>);

/// A task, and whether it was started by this call.
pub(crate) enum Found {
    Running(Arc<NewsTask>),
    Started(Arc<NewsTask>),
}

impl NewsTasks {
    /// The task of a runtime; `start` starts it, if none is running.
    pub(crate) fn find_or_start(&self, runtime: RuntimeId, start: impl FnOnce() -> NewsTask) -> Found {
        let mut tasks = self.0.lock();
        tasks.retain(|(_, task)| task.strong_count() > 0);
        let running = tasks.iter().filter(|(id, _)| *id == runtime);
        let running = running
            .filter_map(|(_, task)| task.upgrade())
            .find(|task| !task.has_ended());
        if let Some(running) = running {
            return Found::Running(running);
        }
        let started = Arc::new(start());
        tasks.push((runtime, Arc::downgrade(&started)));
        Found::Started(started)
    }
}
