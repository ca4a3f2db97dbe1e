"""ClickHouse's engine with a configuration of its own, a process since there is one engine in each.

`python -m tests.support.granted_engine FOLDER`: a line in is a statement as JSON, a line out its rows,
or `{"code": ..., "fault": ...}`. `FOLDER/users.xml` says who asks, and what that user may.
"""

import json
import re
import sys
from pathlib import Path

from chdb.state.sqlitelike import Connection

CODE = re.compile(r"Code: (\d+)")


def main(folder: Path) -> None:
    (folder / "config.xml").write_text(
        f"<clickhouse><users_config>{folder / 'users.xml'}</users_config></clickhouse>"
    )
    engine = Connection(f"{folder / 'data'}?config-file={folder / 'config.xml'}")
    for line in sys.stdin:
        try:
            text = str(engine.query(json.loads(line), "JSONEachRow"))
            answer: object = [json.loads(row) for row in text.splitlines()]
        except RuntimeError as fault:
            found = CODE.search(str(fault))
            answer = {"code": int(found[1]) if found else 0, "fault": str(fault)}
        print(json.dumps(answer), flush=True)
    engine.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
