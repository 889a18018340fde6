use lambda_statefun::prelude::*;

struct Greet;

impl Value for Greet {
    const TYPE_NAME: TypeName = TypeName::from_static("example/greet");
    type Codec = Json;
}

fn main() {}
