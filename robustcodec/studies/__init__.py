"""Commands that answer one question of a codec, an attack or a clip."""
