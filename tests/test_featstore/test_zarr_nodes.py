import json

import zarr

from featstore import zarr_nodes
from featstore.zarr_nodes import write_attributes


def test_write_attributes__one_write_for_all(tmp_path, monkeypatch):
    zarr.create_group(tmp_path / "g", attributes={"a": 1, "b": 2})
    writes = []
    write_json = zarr_nodes.write_json

    def spy(path, content):
        writes.append(path)
        write_json(path, content)

    monkeypatch.setattr(zarr_nodes, "write_json", spy)
    write_attributes(tmp_path / "g", b=3, c=[4])
    assert len(writes) == 1
    assert dict(zarr.open_group(tmp_path / "g").attrs) == {"a": 1, "b": 3, "c": [4]}
    assert json.loads((tmp_path / "g/zarr.json").read_text())["node_type"] == "group"
