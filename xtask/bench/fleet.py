"""fleet.py DIRECTORY [CORES]: makes a fleet (IMACTL_FLEET=MACHINES,ENTRIES), or verifies it with Spark.

Prints the seconds that the job takes, without the start of Spark.
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "contrib/fleet"))

import job  # noqa: E402
import test_fleet  # noqa: E402
from pyspark.sql import functions  # noqa: E402

root, cores = pathlib.Path(sys.argv[1]), sys.argv[2:]
if not cores:
    test_fleet.Fleet(root)
    sys.exit()
spark = test_fleet.session(f"local[{cores[0]}]")
spark.sparkContext.setLogLevel("ERROR")
start = time.monotonic()
rows = job.verify_fleet(spark, (root / "input").as_uri(), [], [str(root / "manifest")])
rows.withColumn("date", functions.lit("2026-01-01")).write.mode("overwrite").parquet(str(root / "table"))
print(time.monotonic() - start)
spark.stop()
