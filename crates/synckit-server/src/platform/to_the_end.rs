//! Work that a request begins and that outlives it.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// A future that runs to its end even if it is dropped before: a task then takes it over. Until then it runs as a part of its
/// caller, which costs nothing of a task's.
///
/// Only the end of the runtime ends it early.
pub(crate) struct ToTheEnd<T>(Option<Pin<Box<dyn Future<Output = T> + Send>>>)
where
    T: Send + 'static;

impl<T: Send + 'static> ToTheEnd<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> fmt::Debug for ToTheEnd<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToTheEnd").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Taken out meanwhile: work that panics is not taken over.
        let Some(mut work) = self.0.take() else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.0 = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, poll};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn dropped_work_goes_on() {
        let (go_on, waiting) = oneshot::channel();
        let (done, finished) = oneshot::channel();
        let mut work = ToTheEnd::new(async move {
            waiting.await.unwrap();
            done.send(7).unwrap();
        });
        assert!(poll!(&mut work).is_pending());
        drop(work);
        go_on.send(()).unwrap();
        assert_eq!(finished.await, Ok(7));
    }

    #[tokio::test]
    async fn finished_work_runs_once_and_answers() {
        let mut work = ToTheEnd::new(async { 7 });
        assert_eq!((&mut work).now_or_never(), Some(7));
        drop(work);
    }

    #[tokio::test]
    async fn work_that_panics_is_not_taken_over() {
        let (alive, dropped) = oneshot::channel::<()>();
        let work = ToTheEnd::new(async move {
            let _alive = alive;
            panic!("as a test wants it");
        });
        let panicked = tokio::spawn(work).await;
        assert!(panicked.is_err_and(|error| error.is_panic()));
        assert!(dropped.await.is_err());
    }
}
