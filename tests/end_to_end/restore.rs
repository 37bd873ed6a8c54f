//! Restores to an earlier moment: no id is given out twice, and an operator learns what others know and the database
//! does not.

mod dump;
mod recovery;
mod stage;
mod standby;
