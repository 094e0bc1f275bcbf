"""The app that gunicorn serves: `gunicorn -c api/gunicorn_conf.py api.wsgi:app`."""

from api.app import create_app
from shared.settings import load_settings

app = create_app(load_settings())
