"""The platform database's metadata: the services that live in the API process hang their tables on it."""

from sqlalchemy import MetaData

metadata = MetaData()
