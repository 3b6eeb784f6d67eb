# The API and the worker in one image: `gestalt api` or `gestalt worker`. The database is brought by docker-compose.yml.
# Debian's release of the images that run; a newer one brings newer drivers of Mesa.
ARG DEBIAN=bookworm
FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
# The embedded database is left out; the libraries of koffi and sharp, which npm counts as optional too, are not.
# WebGPU's package is for the image with GPUs, and only the library for this processor.
RUN mkdir -p /gpu/webgpu && cd node_modules/webgpu && cp package.json index.js LICENSE.md /gpu/webgpu \
    && cp -r --parents "dist/linux-$(node -p process.arch)" /gpu/webgpu
RUN npm run build && mkdir /kept && cp -r node_modules/@koromix node_modules/@img /kept \
    && npm prune --omit=dev --omit=optional && cp -r /kept/. node_modules
# ONNX Runtime brings its libraries for every platform: 220 MB that this one cannot load.
RUN cd node_modules/onnxruntime-node/bin/napi-v6 \
    && find . -mindepth 2 -maxdepth 2 ! -path "./linux/$(node -p process.arch)" -exec rm -r {} + \
    && find . -type d -empty -delete

FROM node:24-${DEBIAN}-slim AS service
ENV NODE_ENV=production GESTALT_HOME=/var/lib/gestalt
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY --from=build /app/bin bin
COPY --from=build /app/prisma/migrations prisma/migrations
COPY --from=build /app/datasets datasets
COPY --from=build /app/recipes recipes
RUN mkdir -p /var/lib/gestalt && chown node:node /var/lib/gestalt
USER node
VOLUME /var/lib/gestalt
EXPOSE 4000
ENTRYPOINT ["node", "bin/gestalt.js"]
CMD ["api"]

# For GPUs: WebGPU and the Vulkan loader. NVIDIA's driver comes from the host, by the container runtime; it needs
# libraries of X and EGL, without which it does not start.
FROM service AS gpu
USER root
RUN apt-get update && apt-get install -y --no-install-recommends libvulkan1 libxext6 libegl1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /gpu/webgpu node_modules/webgpu
# On the GPU or not at all. NVIDIA's driver keeps compiled shaders where something may be written: each run is a process.
ENV GESTALT_ENGINE=webgpu __GL_SHADER_DISK_CACHE_PATH=/tmp
USER node

# For GPUs of AMD and Intel, whose drivers are Mesa's: build it with DEBIAN=trixie for the cards of the last years.
FROM gpu AS gpu-mesa
USER root
RUN apt-get update && apt-get install -y --no-install-recommends mesa-vulkan-drivers && rm -rf /var/lib/apt/lists/*
# Compiled shaders are kept where something may be written.
ENV MESA_SHADER_CACHE_DIR=/tmp
USER node

FROM service
