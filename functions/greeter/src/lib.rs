//! StateFun's greeter: one instance per name, which remembers how often it has been greeted.

use std::time::Duration;

use lambda_statefun::prelude::*;
use serde::{Deserialize, Serialize};

/// Someone says hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greet {
    /// Who.
    pub name: String,
}

impl Value for Greet {
    const TYPE_NAME: TypeName = TypeName::from_static("example/greet");
    type Codec = Json;
}

/// How often this name has been seen; forgotten a day after the last time.
pub const SEEN: ValueSpec<u64> = ValueSpec::new("seen").expire_after_write(Duration::from_secs(86_400));

/// Where greetings go.
pub const GREETINGS: &str = "example/greetings";

/// Counts, and greets by the count.
async fn greet(ctx: &mut Context, message: Greet) -> Result<(), FunctionError> {
    let seen = ctx.get(&SEEN)?.unwrap_or(0) + 1;
    ctx.set(&SEEN, seen)?;
    ctx.egress(GREETINGS, &greeting(&message.name, seen))?;
    Ok(())
}

/// What to say to someone seen for the `seen`-th time.
fn greeting(name: &str, seen: u64) -> String {
    match seen {
        0 | 1 => format!("Welcome {name}"),
        2 => format!("Nice to see you again {name}"),
        3 => format!("Third time is a charm {name}"),
        _ => format!("Nice to see you for the {seen}-th time {name}!"),
    }
}

/// The function `example/greeter`.
#[must_use]
pub fn greeter() -> Function {
    Function::new("example/greeter", greet).state(&SEEN)
}

/// Everything that is deployed together.
#[must_use]
pub fn application() -> Application {
    Application::new().function(greeter())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn say_hello(instance: &mut TestContext, name: &str) -> Vec<String> {
        instance.invoke(&Greet { name: name.to_owned() }).unwrap().egress_of(GREETINGS)
    }

    #[test]
    fn greets_by_how_often_it_has_seen_the_name() {
        let mut bob = TestContext::new(greeter(), "Bob");
        assert_eq!(say_hello(&mut bob, "Bob"), ["Welcome Bob"]);
        assert_eq!(say_hello(&mut bob, "Bob"), ["Nice to see you again Bob"]);
        assert_eq!(say_hello(&mut bob, "Bob"), ["Third time is a charm Bob"]);
        assert_eq!(say_hello(&mut bob, "Bob"), ["Nice to see you for the 4-th time Bob!"]);
        assert_eq!(bob.get(&SEEN), Some(4));
    }

    #[test]
    fn forgets_a_day_after_the_last_greeting() {
        let mut bob = TestContext::new(greeter(), "Bob");
        say_hello(&mut bob, "Bob");
        bob.advance(DAY - Duration::from_millis(1));
        assert_eq!(say_hello(&mut bob, "Bob"), ["Nice to see you again Bob"]);
        bob.advance(DAY);
        assert_eq!(bob.get(&SEEN), None);
        assert_eq!(say_hello(&mut bob, "Bob"), ["Welcome Bob"]);
    }

    #[test]
    fn the_message_is_json_with_a_name() {
        let message = Greet::decode(br#"{"name": "Bob"}"#).unwrap();
        assert_eq!(message, Greet { name: "Bob".to_owned() });
        assert!(Greet::decode(b"Bob").is_err());
    }

    #[test]
    fn the_application_builds() {
        application().build().unwrap();
    }
}
