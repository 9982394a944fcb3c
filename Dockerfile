# docker build -t cascadesim . && docker run --rm cascadesim simulate --arch fusemax --workload llama
FROM python:3.13-slim

COPY . /source
RUN pip install --no-cache-dir "/source[explore]" && rm -rf /source \
    && useradd --create-home cascadesim
USER cascadesim
WORKDIR /home/cascadesim
# compiles the engine once, so that containers start at once
RUN simulate --arch fusemax --workload bert --scope attention --seq-len 1K > /dev/null

ENTRYPOINT ["cascadesim"]
CMD ["--help"]
