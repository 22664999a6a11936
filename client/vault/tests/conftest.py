from hypothesis import settings

settings.register_profile("vault", deadline=None)  # a busy machine is no failure
settings.load_profile("vault")
