"""The model repository, laid out as Triton's: MODEL/VERSION/examples.json, in a folder or in a bucket."""

import json

import fsspec

from classifier import Classifier

# What object stores are called in Triton's URIs, and in fsspec's.
SCHEMES = {"as": "abfs", "az": "abfs", "azure": "abfs"}


class Model:
    def __init__(self, name: str, version: str, classifier: Classifier):
        self.name, self.version, self.classifier = name, version, classifier


def load(uri: str) -> dict[str, Model]:
    """The newest version of each model. `uri` is a folder, s3://, gs:// or as://; credentials are the store's usual
    environment variables."""
    scheme, separator, rest = uri.partition("://")
    if separator:
        uri = f"{SCHEMES.get(scheme, scheme)}://{rest}"
    files, root = fsspec.url_to_fs(uri)
    models: dict[str, Model] = {}
    for path in files.glob(f"{root.rstrip('/')}/*/*/examples.json"):
        name, version = path.split("/")[-3:-1]
        if name.startswith(".") or not version.isdigit() or (name in models and int(models[name].version) > int(version)):
            continue
        models[name] = Model(name, version, Classifier(json.loads(files.cat_file(path))))
    if not models:
        raise FileNotFoundError(f"no model is in {uri}: MODEL/VERSION/examples.json")
    return models
