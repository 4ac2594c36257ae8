//! One connection while a request uses it: its statements, and the transaction around them.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::{FutureExt as _, future::join};
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_postgres::{
    Error,
    types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};

use super::{
    failure::{failed, unanswered},
    pool::Outdated,
};
use crate::{
    StoreError,
    records::{Column, EachRow, Executor, ImpossibleValue, Row, Value},
};

/// How many rows a cursor reads at once.
const ROWS_AHEAD: usize = 16;
/// How long small work waits for an answer: whether sessions have ended must be known within
/// [`REVOCATION_SECONDS`](synckit_protocol::limits::REVOCATION_SECONDS), even if the first connection that is asked is frozen.
const BRIEF: Duration = Duration::from_secs(2);

/// What a transaction sees of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    /// It behaves as if it ran alone, or fails and is repeated: records.
    Serializable,
    /// Each statement sees what is committed. For a writer that locks what it decides on: on the hot path the row of its
    /// stream, of which it is the only writer from then on, and the rows of allowances.
    Locking,
    /// Every statement reads the same snapshot; writes are refused.
    Snapshot,
}

impl Isolation {
    const fn begin(self) -> &'static str {
        match self {
            Self::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
            Self::Locking => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Self::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }
}

/// How long this node waits for the answer to one statement, and what it does then.
///
/// PostgreSQL has a time limit of its own, but a connection that is frozen or cut without a word never tells of it.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    pub(super) limit: Duration,
    pub(super) outdated: Outdated,
}

impl Patience {
    /// Waits for an answer. Without one in time, the connection counts as lost, and every other of its age is replaced, too.
    async fn answer<T>(&self, exchange: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        match timeout(self.limit, exchange).await {
            Ok(answer) => answer.map_err(failed),
            Err(elapsed) => {
                self.outdated.set();
                Err(unanswered(elapsed))
            }
        }
    }
}

/// A connection. A transaction that is not committed is rolled back when it is dropped.
pub(super) struct Connection {
    client: deadpool_postgres::Object,
    patience: Patience,
    /// Sent together with the first statement, which needs no answer to it.
    begin: Mutex<Option<&'static str>>,
    is_open: AtomicBool,
}

impl Connection {
    /// Outside of any transaction.
    pub(super) const fn new(client: deadpool_postgres::Object, patience: Patience) -> Self {
        Self {
            client,
            patience,
            begin: Mutex::new(None),
            is_open: AtomicBool::new(false),
        }
    }

    /// With less time for the answer to each statement: for work that is small and must not wait long.
    pub(super) fn briefly(mut self) -> Self {
        self.patience.limit = self.patience.limit.min(BRIEF);
        self
    }

    /// With a transaction that begins at the next statement.
    pub(super) fn begin(self, isolation: Isolation) -> Self {
        *self.begin.lock() = Some(isolation.begin());
        self
    }

    /// Ends the transaction. Its changes are durable when this returns.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        // A COMMIT ends the transaction, whatever its answer. The first poll of the future below sends it.
        if self.is_open.swap(false, Ordering::Relaxed) {
            self.patience.answer(self.client.batch_execute("COMMIT")).await?;
        }
        Ok(())
    }

    /// Runs a statement and returns its rows as the driver reads them.
    pub(super) async fn rows(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        let statement = self.patience.answer(self.client.prepare_cached(sql)).await?;
        let parameters: Vec<Parameter<'_>> = values.iter().copied().map(Parameter).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|value| value as _).collect();
        self.begun(self.client.query(&statement, &parameters)).await
    }

    /// Runs a statement after the `BEGIN` that waits for it, if any: one round trip.
    async fn begun<T>(&self, statement: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        let Some(begin) = self.take_begin() else {
            return self.patience.answer(statement).await;
        };
        let both = async {
            let (begun, answer) = join(self.client.batch_execute(begin), statement).await;
            begun.and(answer)
        };
        self.patience.answer(both).await
    }

    /// Runs statements without parameters, inside of the transaction if there is one.
    pub(super) async fn run(&self, sql: &str) -> Result<(), StoreError> {
        if let Some(begin) = self.take_begin() {
            self.patience.answer(self.client.batch_execute(begin)).await?;
        }
        self.patience.answer(self.client.batch_execute(sql)).await
    }

    fn take_begin(&self) -> Option<&'static str> {
        let begin = self.begin.lock().take();
        if begin.is_some() {
            // Before it is sent: a future that is dropped meanwhile leaves the transaction to `drop`.
            self.is_open.store(true, Ordering::Relaxed);
        }
        begin
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_open.load(Ordering::Relaxed) {
            // One poll queues it; the next statement of this connection follows it.
            let _ = self.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}

impl Executor for Connection {
    /// By a cursor, which needs a transaction: a statement may have far more rows than its caller takes.
    async fn each(&self, sql: &'static str, values: &[Value<'_>], each: &mut EachRow<'_>) -> Result<(), StoreError> {
        self.rows(&format!("DECLARE each NO SCROLL CURSOR FOR {sql}"), values)
            .await?;
        let fetch = format!("FETCH {ROWS_AHEAD} FROM each");
        loop {
            // Not prepared: the columns are those of this cursor.
            let rows = self.patience.answer(self.client.query_typed(&fetch, &[])).await?;
            for row in &rows {
                if each(read(row)?)?.is_break() {
                    return self.run("CLOSE each").await;
                }
            }
            if rows.len() < ROWS_AHEAD {
                return self.run("CLOSE each").await;
            }
        }
    }

    async fn execute(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let statement = self.patience.answer(self.client.prepare_cached(sql)).await?;
        let parameters: Vec<Parameter<'_>> = values.iter().copied().map(Parameter).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|value| value as _).collect();
        self.begun(self.client.execute(&statement, &parameters)).await
    }

    async fn query(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let rows = self.rows(sql, values).await?;
        rows.iter().map(read).collect()
    }
}

/// Reads a row of the driver.
pub(super) fn read(row: &tokio_postgres::Row) -> Result<Row, StoreError> {
    let columns = row.columns().iter().enumerate().map(|(index, column)| {
        let column = match *column.type_() {
            Type::INT8 => row
                .try_get::<_, Option<i64>>(index)
                .map(|value| value.map(Column::Number)),
            Type::TEXT => row
                .try_get::<_, Option<String>>(index)
                .map(|value| value.map(Column::Text)),
            Type::BYTEA => row
                .try_get::<_, Option<Vec<u8>>>(index)
                .map(|value| value.map(Column::Bytes)),
            _ => return Err(ImpossibleValue("column of another type").into()),
        };
        Ok(column.map_err(failed)?.unwrap_or(Column::Null))
    });
    Ok(Row::new(columns.collect::<Result<_, StoreError>>()?))
}

#[derive(Debug)]
struct Parameter<'a>(Value<'a>);

impl ToSql for Parameter<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (self.0, self.0.number()?) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Text(text), _) if *ty == Type::TEXT => text.to_sql(ty, out),
            (Value::Bytes(bytes), _) if *ty == Type::BYTEA => bytes.to_sql(ty, out),
            (_, Some(number)) if *ty == Type::INT8 => number.to_sql(ty, out),
            _ => Err(Box::new(ImpossibleValue("parameter"))),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
